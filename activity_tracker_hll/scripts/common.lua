-- Put before every script. Redis and Valkey refuse to unpack many thousand values at once.
local CHUNK = 4000

-- Calls command key v1 v2 ... for a list of values, some thousand at a time.
local function each_chunk(command, key, values)
  for i = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, i, math.min(i + CHUNK - 1, #values)))
  end
end

-- Gives keys their expiry, a unix time or 'keep'. Unless it is renewed, a key that has one keeps it.
local function expire(keys, at, renew)
  for _, key in ipairs(keys) do
    if at == 'keep' then
      if renew then redis.call('PERSIST', key) end
    elseif renew or redis.call('TTL', key) == -1 then
      redis.call('EXPIREAT', key, at) -- a time in the past deletes it
    end
  end
end

-- PFCOUNT that does not pass on what only a manipulated sketch gives: negative or absurd numbers.
-- Numbers are exact here up to 2^53.
local function cardinality(key)
  local n = redis.call('PFCOUNT', key)
  if n < 0 or n >= 2 ^ 53 then error('CORRUPT: impossible cardinality') end
  return n
end

-- Whether writes to a bucket come too late: it was collapsed, and its sketch is gone.
local function is_late(count, hll)
  local counted = redis.call('GET', count)
  if not counted or redis.call('EXISTS', hll) == 1 then return false end
  if counted ~= '0' then return true end
  redis.call('DEL', count) -- activity-tracker's count of nothing: the period is open again
  return false
end

-- What clients want to know of a side table: members, how many of them left, and the newest stamp.
-- Scores are passed on as text: Lua would round them.
local function table_state(moves)
  local members = redis.call('ZCARD', moves)
  if members == 0 then return 0, 0, '0' end
  local left = redis.call('ZRANGE', moves, 0, 0, 'WITHSCORES')[2]
  local active = redis.call('ZRANGE', moves, -1, -1, 'WITHSCORES')[2]
  local newest = -tonumber(left) > tonumber(active) and left or active
  return members, redis.call('ZCOUNT', moves, '-inf', '(0'), newest
end

-- Ends a script. What a key holds that does not belong there stays until someone mends it: that is told from
-- errors that pass, by their codes.
local function guarded(main)
  local done, result = pcall(main)
  if done then return result end
  local message = type(result) == 'table' and result.err or tostring(result)
  message = string.gsub(message, '^.*user_script:%d+: ', '')
  for _, code in ipairs({'WRONGTYPE', 'INVALIDOBJ', 'CORRUPT'}) do
    if string.find(message, code, 1, true) then return {'BROKEN', message} end
  end
  return {err = message}
end
