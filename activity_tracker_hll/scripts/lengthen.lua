-- Lengthens for how long sketches are kept, as stored with the settings: of all that clients are given, the
-- longest holds, in whatever order they come. Seconds, or 'forever'; what makes no sense stands for that.
-- Further arguments: fields, each followed by its length.
-- OK.
for i = EXTRA_ARGS, #ARGV, 2 do
  local field, given = ARGV[i], ARGV[i + 1]
  local stored = redis.call('HGET', settings, field)
  local seconds = stored and tonumber(stored)
  if not stored or seconds and (given == 'forever' or tonumber(given) > seconds) then
    redis.call('HSET', settings, field, given)
  end
end
return {'OK'}
