-- Writes events of ids to a bucket, unless it was collapsed and its sketch is gone. Merging a stamp is
-- idempotent, and the order of stamps does not matter: of each id the newest by absolute value stays, active
-- wins a tie.
-- limit: members the side table has at most. actives: how many ids that were active follow, each
-- with its stamp; they concern the table only if they are in it. Then ids that moved, each with the stamp of
-- its newest event here, negative if it left.
-- LATE. OK: whether there was a sketch before, whether ids were moved out, members of the table before, and its state.
if is_late(count, hll) then return {'LATE'} end
local limit, first = tonumber(limit), REST + 2 * tonumber(actives)
local existed, had_moved = redis.call('EXISTS', hll), redis.call('EXISTS', moved)
local members = redis.call('ZCARD', moves)

local function merge(id, stamp, score)
  local new, old = tonumber(stamp), tonumber(score)
  if math.abs(new) > math.abs(old) or new == -old and new > 0 then redis.call('ZADD', moves, stamp, id) end
end

local ids = {}
for i = REST, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
each_chunk('PFADD', hll, ids)
if redis.call('EXISTS', moves) == 1 then
  for i = REST, first - 1, 2 do
    local score = redis.call('ZSCORE', moves, ARGV[i])
    if score then merge(ARGV[i], ARGV[i + 1], score) end
  end
end

local room = limit - members
for i = first, #ARGV, 2 do
  local id, stamp = ARGV[i], ARGV[i + 1]
  local score = redis.call('ZSCORE', moves, id)
  local left = tonumber(stamp) < 0
  -- Who left is in V even if the table is full: counts stay right, only a return goes unseen. Members of the
  -- table are in V too, as those who are active are counted beside the remainder of the sketches.
  if left or score or room > 0 then redis.call('PFADD', moved, id) end
  if score then
    merge(id, stamp, score)
  elseif room > 0 then
    redis.call('ZADD', moves, stamp, id)
    room = room - 1
  end
end

local ttl = redis.call('PTTL', hll)
if ttl > 0 then -- collapsed already: what is new beside the sketch ends with it
  for _, key in ipairs({moved, moves}) do
    if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, ttl) end
  end
end
return {'OK', existed, had_moved, members, table_state(moves)}
