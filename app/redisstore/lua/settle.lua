-- settle.lua ends claims on instances that did not change: it writes when each is
-- due next and what was found, and clears the marks of those that passed.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  queue, its name without the prefix
-- ARGV[3]  "1" when the queue's times are on the clock that stands still while the
--          registry is out of reach
-- ARGV[4..] six for each claim: id, token, when it is due next in ms, result or '' when the
--           check was not run, url, and its vhosts apart by spaces when it passed, else ''
--
-- Returns the number of claims that held; the others were dropped.
local FIELDS, AT_ONCE = 6, 100
local queue, held, away = c.prefix .. ARGV[2], 0, 0
if ARGV[3] == '1' then away = tonumber(redis.call('HGET', c.prefix .. 'ticks', 'away') or 0) end

for from = 4, #ARGV, FIELDS * AT_ONCE do
  local to = math.min(from + FIELDS * AT_ONCE, #ARGV) - 1
  local ids, due, keys, found, results = {}, {}, {}, {}, {}
  for i = from, to, FIELDS do ids[#ids + 1] = ARGV[i] end
  local tokens = redis.call('ZMSCORE', queue, unpack(ids))
  for i = from, to, FIELDS do
    local id, token, at, result, url, hosts = unpack(ARGV, i, i + FIELDS - 1)
    if tonumber(tokens[(i - from) / FIELDS + 1] or -1) == tonumber(token) then
      held = held + 1
      due[#due + 1], due[#due + 2] = at - away, id
      if result ~= '' then
        keys[#keys + 1], found[#found + 1] = c.prefix .. 'results:' .. id, result
      end
      for host in string.gmatch(hosts, '%S+') do vhost.passed(host, url) end
    end
  end
  if #due > 0 then redis.call('ZADD', queue, unpack(due)) end
  if #keys > 0 then
    for i, before in ipairs(redis.call('MGET', unpack(keys))) do
      results[#results + 1], results[#results + 2] = keys[i], kept(before, found[i])
    end
    redis.call('MSET', unpack(results))
  end
end
return held
