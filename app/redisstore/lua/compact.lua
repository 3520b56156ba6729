-- compact.lua replaces contributions to a history by buckets that have them. Only the owner of
-- the service's or vhost's shard may.
--
-- KEYS[1]  shards         hash, see own.lua
-- KEYS[2]  history        hash: v: version; m: fine buckets; d<n>: a group of coarse buckets
-- KEYS[3]  contributions  list
-- ARGV[1]  shard
-- ARGV[2]  term
-- ARGV[3]  the version that was read; '' for none
-- ARGV[4]  how many contributions, from the first, the buckets have
-- ARGV[5]  how many groups are kept
-- ARGV[6]  how long the history is kept, s
-- ARGV[7..] fields and values, v among them
--
-- Returns 'ok'; 'lost' when another worker owns the shard; 'stale' when the history has changed.
local shards, history, contributions = KEYS[1], KEYS[2], KEYS[3]
local taken, groups, keep = ARGV[4], tonumber(ARGV[5]), ARGV[6]

if redis.call('HGET', shards, ARGV[1]) ~= ARGV[2] then return 'lost' end
if (redis.call('HGET', history, 'v') or '') ~= ARGV[3] then return 'stale' end

for n = 7, #ARGV, 2 do redis.call('HSET', history, ARGV[n], ARGV[n + 1]) end
redis.call('EXPIRE', history, keep)
redis.call('LTRIM', contributions, taken, -1)
if redis.call('HLEN', history) > groups + 2 then
  local days = {}
  for _, field in ipairs(redis.call('HKEYS', history)) do
    local n = tonumber(string.match(field, '^d(%d+)$'))
    if n then days[#days + 1] = n end
  end
  table.sort(days)
  for n = 1, #days - groups do redis.call('HDEL', history, 'd' .. string.format('%.0f', days[n])) end
end
return 'ok'
