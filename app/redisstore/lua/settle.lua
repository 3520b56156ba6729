-- settle.lua ends claims on instances that did not change: it writes when each is
-- due next and what was found, and clears the marks of those that passed.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  queue, its name without the prefix
-- ARGV[3]  "1" when the queue's times are on the clock that stands still while the
--          registry is out of reach
-- ARGV[4]  JSON: [{id, token, due: ms, result, url, hosts: [host...]}...]; result is
--          absent when the check was not run, hosts when it did not pass
--
-- Returns the number of claims that held; the others were dropped.
local queue, held, away = c.prefix .. ARGV[2], 0, 0
if ARGV[3] == '1' then away = tonumber(redis.call('HGET', c.prefix .. 'clock', 'away') or 0) end

for _, s in ipairs(cjson.decode(ARGV[4])) do
  if tonumber(redis.call('ZSCORE', queue, s.id) or -1) == tonumber(s.token) then
    held = held + 1
    redis.call('ZADD', queue, s.due - away, s.id)
    if s.result then record(s.id, s.result) end
    for _, host in ipairs(s.hosts or {}) do vhost.passed(host, s.url) end
  end
end
return held
