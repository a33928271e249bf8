-- Writes events of ids to a bucket, unless it was collapsed and its sketch is gone. Stamps may be merged
-- repeatedly and in any order: for each id the newest by absolute value wins; in a tie, the active one.
-- limit: the most members that the side table may have. actives: the number of active ids. They come as extra
-- arguments, each followed by its stamp, and concern the table only if they are in it. Then come the ids that
-- moved, each with the stamp of its newest event here, negative if it left.
-- LATE. OK: whether there was a sketch before, whether ids were moved out before, the members of the side table
-- before, and a summary of it.
if is_late(count, stderr, hll) then return {'LATE'} end
local limit, first = tonumber(limit), EXTRA_ARGS + 2 * tonumber(actives)
local existed, had_moved = redis.call('EXISTS', hll), redis.call('EXISTS', moved)
local members = redis.call('ZCARD', moves)

local function merge(id, stamp, score)
  local new, old = tonumber(stamp), tonumber(score)
  local newer = math.abs(new) > math.abs(old) or new == -old and new > 0
  if newer then redis.call('ZADD', moves, stamp, id) end
  return newer
end

local ids = {}
for i = EXTRA_ARGS, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
each_chunk('PFADD', hll, ids)
if redis.call('EXISTS', moves) == 1 then
  for i = EXTRA_ARGS, first - 1, 2 do
    local score = redis.call('ZSCORE', moves, ARGV[i])
    if score then merge(ARGV[i], ARGV[i + 1], score) end
  end
end

local room, oldest = limit - members, nil
for i = first, #ARGV, 2 do
  local id, stamp = ARGV[i], ARGV[i + 1]
  local score = redis.call('ZSCORE', moves, id)
  local left = tonumber(stamp) < 0
  -- An id that left is added to V even if the table is full: counts stay right, only its return goes unseen.
  -- Members of the table are in V too, because active members are counted in addition to the remainder H \ V.
  if left or score or room > 0 then redis.call('PFADD', moved, id) end
  local changed = room > 0
  if score then
    changed = merge(id, stamp, score)
  elseif changed then
    redis.call('ZADD', moves, stamp, id)
    room = room - 1
  end
  if changed and left and (not oldest or -tonumber(stamp) < oldest) then oldest = -tonumber(stamp) end
end

local ttl = redis.call('PTTL', hll)
if ttl > 0 then -- collapsed before: keys that are new expire together with the sketch
  for _, key in ipairs({moved, moves}) do
    if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, ttl) end
  end
end
return {'OK', existed, had_moved, members, table_state(moves, announced, oldest)}
