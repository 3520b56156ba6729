-- settle.lua ends claims on instances that did not change: it writes when each is
-- due next and what was found, and clears the marks of those that passed.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  queue, its name without the prefix
-- ARGV[3]  JSON: [{id, token, due: ms, result, url, hosts: [host...]}...]; result is
--          absent when the check was not run, hosts when it did not pass
--
-- Returns the number of claims that held; the others were dropped.
local queue, held = c.prefix .. ARGV[2], 0
for _, s in ipairs(cjson.decode(ARGV[3])) do
  if tonumber(redis.call('ZSCORE', queue, s.id) or -1) == tonumber(s.token) then
    held = held + 1
    redis.call('ZADD', queue, s.due, s.id)
    if s.result then record(s.id, s.result) end
    for _, host in ipairs(s.hosts or {}) do vhost.passed(host, s.url) end
  end
end
return held
