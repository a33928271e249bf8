-- Unites a sketch made outside with a bucket's, unless the bucket was collapsed and its sketch is gone.
-- sketch: empty to look only; base: the bucket's own sketch that it already includes, or empty.
-- LATE. SPARSE held: unite the two outside and call again, which is many times faster than what PFMERGE does
-- with two sparse ones. OK: whether there was a sketch before, whether ids were moved out, and the side
-- table's state.
local DENSE_BYTES = 12304

if is_late(count, hll) then return {'LATE'} end
local size = redis.call('STRLEN', hll)
if sketch ~= '' then
  local held = size > 0 and size < DENSE_BYTES and #sketch < DENSE_BYTES and redis.call('GET', hll)
  if size == 0 then
    redis.call('SET', hll, sketch)
  elseif held and base == '' then
    return {'SPARSE', held}
  elseif held and held == base then
    redis.call('SET', hll, sketch, 'KEEPTTL')
  else
    redis.call('SET', temporary, sketch, 'EX', 60)
    local united = redis.pcall('PFMERGE', hll, temporary)
    redis.call('DEL', temporary)
    if united.err then error(united.err, 0) end -- the bucket's own is damaged, or no sketch
  end
end
return {'OK', size > 0 and 1 or 0, redis.call('EXISTS', moved), table_state(moves)}
