-- Unites a sketch made outside with a bucket's, unless the bucket was collapsed and its sketch is gone.
-- KEYS count hll out temporary moved back   ARGV sketch, or a union and the bucket's sketch that it was made from
-- Returns {state, ...}: LATE, SPARSE sketch (the bucket's: unite the two outside and call again, which is
-- many times faster than what PFMERGE does with two sparse ones), OUT (united; ids are out of the bucket
-- that may have returned) or OK with, 1 or 0 each, whether the bucket had a sketch before, and whether moved,
-- out and back exist.
local count, hll, out, temporary = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local sketch, merged = ARGV[1], ARGV[2]
local DENSE_BYTES = 12304

local size = redis.call('STRLEN', hll)
local collapsed = redis.call('GET', count)
if collapsed and size == 0 then
  if collapsed ~= '0' then return {'LATE'} end
  redis.call('DEL', count) -- nothing was lost with an empty period: it is open again
end

local sparse = size < DENSE_BYTES and #sketch < DENSE_BYTES
local held = sparse and size > 0 and redis.call('GET', hll)
if size == 0 then
  redis.call('SET', hll, sketch)
elseif held and not merged then
  return {'SPARSE', held}
elseif held and held == merged then
  redis.call('SET', hll, sketch, 'KEEPTTL')
else
  redis.call('SET', temporary, sketch, 'EX', 60)
  local done = redis.pcall('PFMERGE', hll, temporary)
  redis.call('DEL', temporary)
  if done.err then return done end -- the bucket's own is damaged, or no sketch
end
local gone = redis.call('EXISTS', out)
return {gone == 1 and 'OUT' or 'OK', size > 0 and 1 or 0,
  redis.call('EXISTS', KEYS[5]), gone, redis.call('EXISTS', KEYS[6])}
