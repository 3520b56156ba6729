-- contribute.lua adds one batch of a worker's contributions to histories, as a whole or not at all.
-- A batch that was added before is not added again.
--
-- KEYS[1]   shards   hash, see own.lua
-- KEYS[2]   workers  hash, see own.lua
-- KEYS[3]   batches  hash: worker -> the number of its last batch
-- KEYS[4..] lists of contributions
-- ARGV[1]   worker id
-- ARGV[2]   number of the batch
-- ARGV[3]   how long a history is kept, s
-- ARGV[4]   how many fences follow; each is a pair in ARGV[5..]: shard, term
-- ARGV[..]  after the pairs, one contribution for each list
--
-- Returns the numbers of the shards that were refused.
local shards, workers, batches = KEYS[1], KEYS[2], KEYS[3]
local worker, number, keep, fences = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local LONGEST, BATCHES = 2000, 100

if tonumber(redis.call('HGET', batches, worker) or 0) >= number then return {} end

local refused = {}
for n = 5, 3 + 2 * fences, 2 do
  if redis.call('HGET', shards, ARGV[n]) ~= ARGV[n + 1] then refused[#refused + 1] = ARGV[n] end
end
if #refused > 0 then return refused end

for n = 4, #KEYS do
  if redis.call('LLEN', KEYS[n]) < LONGEST then redis.call('RPUSH', KEYS[n], ARGV[n + 1 + 2 * fences]) end
  redis.call('EXPIRE', KEYS[n], keep)
end
redis.call('HSET', batches, worker, ARGV[2])
if redis.call('HLEN', batches) > BATCHES then -- the terms of a dropped worker are over: it sends no further batch
  for _, other in ipairs(redis.call('HKEYS', batches)) do
    if redis.call('HEXISTS', workers, other) == 0 then redis.call('HDEL', batches, other) end
  end
end
return {}
