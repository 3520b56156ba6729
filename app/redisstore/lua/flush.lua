-- flush.lua writes one record for each shard: the owner's data about its instances that is not in their documents. It
-- refuses a shard that has another term.
--
-- KEYS[1]   shards     hash, see own.lua
-- KEYS[2..] the records, one for each shard in ARGV
-- ARGV      three values for each shard: its number, the term of the worker, the record ('' for none)
--
-- Returns the numbers of the refused shards.
local numbers, write, clear, refused = {}, {}, {}, {}
for i = 1, #ARGV, 3 do numbers[#numbers + 1] = ARGV[i] end
local terms = redis.call('HMGET', KEYS[1], unpack(numbers))
for n, shard in ipairs(numbers) do
  local term, record = ARGV[3 * n - 1], ARGV[3 * n]
  if terms[n] ~= term then
    refused[#refused + 1] = shard
  elseif record == '' then
    clear[#clear + 1] = KEYS[n + 1]
  else
    write[#write + 1], write[#write + 2] = KEYS[n + 1], record
  end
end
if #write > 0 then redis.call('MSET', unpack(write)) end
if #clear > 0 then redis.call('DEL', unpack(clear)) end
return refused
