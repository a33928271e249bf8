-- Unites a bucket with what an archive has of it. A count of the server's own stands; where it has neither count
-- nor sketch, the archive's count is stored, and sketches are given their expiry in the same step.
-- n: the count, or empty. error_text: its standard error, or empty. sketch, moved_sketch: empty = there is none.
-- is_part: '1' if ids may have come after it was archived: a sketch that lacks them never stands beside a count
-- that has them.
-- expiry: of sketches that are counted; none expires sooner than it would have without.
-- OK: whether the bucket holds ids that no stored count knows of.
local stored, existed = redis.call('GET', count), redis.call('EXISTS', hll) == 1
local before = cardinality(hll) + cardinality(moved)

local function unite(key, given)
  if given == '' then return end
  if redis.call('EXISTS', key) == 0 then
    redis.call('SET', key, given)
    return
  end
  redis.call('SET', temporary, given, 'EX', TEMPORARY_S)
  local merged = redis.pcall('PFMERGE', key, temporary)
  redis.call('DEL', temporary)
  if merged.err then error(merged.err, 0) end
end

-- A script ends where a command is denied, and what it did stays: a sketch beside a count, without expiry. So
-- those that come last are tried before, on a key that there is not.
redis.call('TTL', temporary)
if expiry == 'keep' then redis.call('PERSIST', temporary) else redis.call('EXPIREAT', temporary, expiry) end

local counted = is_counted(stored, stderr)
if is_part == '1' and counted and not existed then sketch, moved_sketch = '', '' end
unite(hll, sketch)
unite(moved, moved_sketch)
if not counted and not existed and n ~= '' then
  if error_text ~= '' then redis.call('SET', stderr, error_text) end
  redis.call('SET', count, n)
end

-- A sketch without expiry beside a count is for a collapse to look at: it may be newer than the count.
if is_counted(redis.call('GET', count), stderr) and not (counted and existed and redis.call('TTL', hll) == -1) then
  for _, key in ipairs({hll, moved, moves}) do
    local left = redis.call('TTL', key)
    if expiry == 'keep' then
      redis.call('PERSIST', key)
    elseif left == -1 or left >= 0 and redis.call('TIME')[1] + left < tonumber(expiry) then
      redis.call('EXPIREAT', key, expiry)
    end
  end
end

local after = cardinality(hll) + cardinality(moved)
local grown = existed and after ~= before or not existed and sketch ~= '' and n ~= stored
return {'OK', (not is_counted(redis.call('GET', count), stderr) and after > 0 or counted and grown) and 1 or 0}
