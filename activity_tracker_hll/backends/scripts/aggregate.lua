-- Counts the union of several buckets; with a mode other than 'count' also stores it, with its sketch.
-- KEYS count hll stderr plain gone (temporary), then per source: count hll moved back raw
-- ARGV mode (count, collapse, recount), expiry, field, detail (1 or 0, or check: see CHECK), and to store an estimate
--      made outside: the union and gone counts when it was made, count, standard error (empty: the plain one)
-- Returns {state, ...}: RAW places of sources whose raw sets must be folded in first, DONE, GONE places of
-- sources whose sketches are gone, NONE (no sketch to count), MOVES union gone plain, number of
-- sources with moves, and the counts union_of_differences() in hll/from_counts.py wants of them and of each two;
-- CHECK n 0 (no moves; whether the sketches are suspect), CHANGED, COUNTED n.
local PER_SOURCE, FIRST = 5, 5
local MOST_IN_PAIRS = 24 -- 1,380 counts of some 15 us each
local TEMPORARY_S = 60
local count, hll, stderr, plain, gone = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mode, at, field, detailed = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local all, moving, still, raws, missing, uncounted = {}, {}, {}, {'RAW'}, {'GONE'}, false
for i = 0, (#KEYS - FIRST) / PER_SOURCE - 1 do
  local at_source = FIRST + i * PER_SOURCE
  local source = {count = KEYS[at_source + 1], hll = KEYS[at_source + 2], moved = KEYS[at_source + 3],
                  back = KEYS[at_source + 4], raw = KEYS[at_source + 5]}
  local exists = redis.call('EXISTS', source.hll) == 1
  local counted = redis.call('GET', source.count)
  if not exists and counted and counted ~= '0' then
    missing[#missing + 1] = i
  elseif redis.call('EXISTS', source.raw) == 1 then
    raws[#raws + 1] = i
  end
  if exists then
    local moves = redis.call('EXISTS', source.moved) == 1
    -- Another program's collapse may have stored a zero beside a sketch it does not know.
    uncounted = uncounted or not counted
      or (counted == '0' and not moves and redis.call('TTL', source.hll) == -1)
    all[#all + 1] = source.hll
    local list = moves and moving or still
    list[#list + 1] = source
  end
end
if #raws > 1 then return raws end
if mode ~= 'count' then
  if redis.call('EXISTS', count) == 1 then
    -- A source that is not counted came later, or the collapse that counted this was cut short.
    if #missing > 1 or (mode == 'collapse' and not uncounted) then
      expire({hll}, at, false)
      return {'DONE'}
    end
  elseif redis.call('EXISTS', hll) == 1 then
    error('ids are tracked in a bucket of this name')
  end
end
if #missing > 1 then return missing end

-- Temporary keys end by themselves, whatever happens here. The target is a source too; servers imply that,
-- fakeredis wants to be told.
local function merge(target, keys)
  for i = 1, #keys, CHUNK do
    redis.call('PFMERGE', target, target, unpack(keys, i, math.min(i + CHUNK - 1, #keys)))
    redis.call('EXPIRE', target, TEMPORARY_S)
  end
end
local function union(keys)
  redis.call('DEL', plain)
  merge(plain, keys)
  local n = cardinality(plain)
  redis.call('DEL', plain)
  return n
end
local function store(n, standard_error)
  redis.call('DEL', plain) -- PFMERGE would add to what is there: build anew, then replace
  merge(plain, all)
  if #all > 0 then redis.call('RENAME', plain, hll) else redis.call('DEL', hll) end
  if standard_error then redis.call('HSET', stderr, field, standard_error)
  else redis.call('HDEL', stderr, field) end
  redis.call('SET', count, n)
  redis.call('PERSIST', hll)
  expire({hll}, at, true)
  return {'COUNTED', tonumber(n)}
end

if mode == 'count' and #all == 0 then return {'NONE'} end
if #moving == 0 then
  local n = union(all)
  if mode == 'count' then return {'COUNTED', n} end
  if not ARGV[5] then return ARGV[4] == 'check' and n > 0 and {'CHECK', n, 0} or store(n) end
  if n ~= tonumber(ARGV[5]) or ARGV[6] ~= '0' then return {'CHANGED'} end
  return store(n, ARGV[8] ~= '' and ARGV[8])
end

redis.call('DEL', plain, gone)
local keys = {}
for _, source in ipairs(still) do keys[#keys + 1] = source.hll end
merge(plain, keys)
keys = {}
for _, source in ipairs(moving) do
  local back = redis.call('SMEMBERS', source.back) -- as good as never moved
  if #back > 0 then
    each_chunk('PFADD', plain, back, 1)
    redis.call('EXPIRE', plain, TEMPORARY_S)
  end
  keys[#keys + 1] = source.moved
end
keys[#keys + 1] = plain
merge(gone, keys)
local result = {'MOVES', 0, cardinality(gone), cardinality(plain), #moving}
local function add(...) result[#result + 1] = cardinality(...) end
for _, source in ipairs(detailed and moving or {}) do
  add(source.hll, plain)
  add(source.moved, plain)
  add(source.hll, gone)
end
if detailed and #moving > 2 and #moving <= MOST_IN_PAIRS then
  for i = 1, #moving - 1 do
    for j = i + 1, #moving do
      local one, other = moving[i], moving[j]
      add(one.hll, other.moved, plain)
      add(one.moved, other.hll, plain)
      add(one.hll, other.hll, plain)
      add(one.moved, other.moved, plain)
      add(one.hll, other.hll, gone)
    end
  end
end
redis.call('DEL', gone)
result[2] = union(all)

if ARGV[5] then
  if result[2] ~= tonumber(ARGV[5]) or result[3] ~= tonumber(ARGV[6]) then return {'CHANGED'} end
  return store(ARGV[7], ARGV[8])
end
return result
