-- Unites a client's sketch with a bucket's, unless the bucket was collapsed and its sketch is gone.
-- sketch: empty = change nothing. base: the bucket's own sketch if `sketch` already includes it, or empty.
-- LATE. SPARSE own: the client should unite the two and call again, which is many times faster than PFMERGE is
-- with two sparse sketches. OK: whether there was a sketch before, whether ids were moved out, and a summary of
-- the side table.
local DENSE_BYTES = 12304

if is_late(count, stderr, hll) then return {'LATE'} end
local size = redis.call('STRLEN', hll)
if sketch ~= '' then
  local own = size > 0 and size < DENSE_BYTES and #sketch < DENSE_BYTES and redis.call('GET', hll)
  if size == 0 then
    redis.call('SET', hll, sketch)
  elseif own and base == '' then
    return {'SPARSE', own}
  elseif own and own == base then
    redis.call('SET', hll, sketch, 'KEEPTTL')
  else
    redis.call('SET', temporary, sketch, 'EX', TEMPORARY_S)
    local united = redis.pcall('PFMERGE', hll, temporary)
    redis.call('DEL', temporary)
    if united.err then error(united.err, 0) end -- the bucket's own sketch is damaged, or not a sketch
  end
end
return {'OK', size > 0 and 1 or 0, redis.call('EXISTS', moved), table_state(moves, announced)}
