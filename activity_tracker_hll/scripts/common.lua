-- The beginning of every script.

-- Redis and Valkey refuse to unpack many thousand values at once.
local CHUNK = 4000

-- For how long a key exists that nothing is known of yet.
local TEMPORARY_S = 60

-- Calls command key v1 v2 ... for a list of values, CHUNK of them at a time.
local function each_chunk(command, key, values)
  for i = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, i, math.min(i + CHUNK - 1, #values)))
  end
end

-- Whether a sketch was counted, and an aggregate waits for it.
local function is_awaited(ttl)
  return ttl > 0 and redis.call('TIME')[1] + ttl >= AWAITED_FROM
end

-- Sets the expiry of keys: a Unix time, or 'keep'. A key that has one keeps it unless renew is true.
local function expire(keys, at, renew)
  for _, key in ipairs(keys) do
    local due = renew
    if not due and at ~= 'keep' then
      local ttl = redis.call('TTL', key)
      due = ttl == -1 or is_awaited(ttl)
    end
    if due and at == 'keep' then redis.call('PERSIST', key)
    elseif due then redis.call('EXPIREAT', key, at) end -- a time in the past deletes it
  end
end

-- PFCOUNT that refuses the negative and absurd numbers of manipulated sketches. Lua's numbers are exact up to
-- 2^53.
local function cardinality(key)
  local n = redis.call('PFCOUNT', key)
  if n < 0 or n >= 2 ^ 53 then error('CORRUPT: impossible cardinality') end
  return n
end

-- Whether what is stored as a count was told by a sketch: activity-tracker stored zeros for what it never saw, but
-- one of a bucket that everybody left has a standard error beside it.
local function is_counted(stored, stderr)
  return stored and (stored ~= '0' or redis.call('EXISTS', stderr) == 1)
end

-- Whether writes to a bucket come too late: it was collapsed, and its sketch is gone.
local function is_late(count, stderr, hll)
  local stored = redis.call('GET', count)
  if not stored or redis.call('EXISTS', hll) == 1 then return false end
  if is_counted(stored, stderr) then return true end
  redis.call('DEL', count) -- activity-tracker's count of nothing: the period is open again
  return false
end

-- A summary of a side table: its members, how many of them left, the newest stamp by absolute value, since when
-- no leaving goes unannounced, and what is announced. Stamps are text, because Lua would round what is passed on.
-- oldest: of the leavings that were merged, if any were, when the oldest happened.
local function table_state(moves, announced, oldest)
  local members = redis.call('ZCARD', moves)
  if members == 0 then return 0, 0, '0', '0', '0 0' end
  local left = redis.call('ZRANGE', moves, 0, 0, 'WITHSCORES')[2]
  local active = redis.call('ZRANGE', moves, -1, -1, 'WITHSCORES')[2]
  local newest = -tonumber(left) > tonumber(active) and left or active
  local stamp = math.abs(tonumber(newest))
  -- Whatever else is there is nothing that was announced.
  local text = redis.pcall('GET', announced)
  local backdated, last = string.match(type(text) == 'string' and text or '', '^(%d+) (%d+)$')
  if oldest or not backdated then
    local seconds, microseconds = unpack(redis.call('TIME'))
    local now = seconds * 1000000 + microseconds
    local moment = now
    if backdated and tonumber(last) >= now and tonumber(last) < now + ANNOUNCED_S * 1000000 then
      moment = tonumber(last) + 1
    end
    local fresh = string.format('%.0f', moment)
    if not backdated or oldest <= math.max(stamp, now) - BACKDATED_US then backdated = fresh end
    last = fresh
    text = backdated .. ' ' .. fresh
    redis.pcall('SET', announced, text, 'EX', ANNOUNCED_S) -- if that is not possible, all is read next time
  end
  local since = string.format('%.0f', math.min(stamp, tonumber(last)) - BACKDATED_US)
  return members, redis.call('ZCOUNT', moves, '-inf', '(0'), newest, since, text
end

-- Runs the body of a script. A key that holds something that does not belong there stays so until someone
-- repairs it: such errors are recognized by their codes and reported as BROKEN, unlike errors that pass.
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
