-- Put before every script. Redis and Valkey refuse to unpack many thousand values at once.
local CHUNK = 4000

-- Calls command key v1 v2 ... for a list of values, some thousand at a time.
local function each_chunk(command, key, values, first)
  for i = first, #values, CHUNK do
    redis.call(command, key, unpack(values, i, math.min(i + CHUNK - 1, #values)))
  end
end

-- Gives the keys of a collapsed sketch their expiry, a unix time or 'keep'. Unless it is renewed, a key
-- that has one keeps it.
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
local function cardinality(...)
  local n = redis.call('PFCOUNT', ...)
  if n < 0 or n >= 2 ^ 53 then error('corrupt sketch: impossible cardinality') end
  return n
end
