-- mark.lua takes a backend out of one vhost's traffic and announces it, unless no
-- other backend of the vhost is open. Two proxies that mark at the same time cannot
-- close both of two backends: the second script sees the mark of the first.
--
-- KEYS[1]  the frontend that answered for the host
-- KEYS[2]  the dead set of the requested host
-- ARGV[1]  the requested host
-- ARGV[2]  the backend's URL, as stored
-- ARGV[3]  how long the marks last, in milliseconds
--
-- Marks every position that holds the URL now: the list may have changed since it was
-- read. Returns the number of these positions, or 0 when nothing was marked.
local list, dead = KEYS[1], KEYS[2]
local host, url, ttl = ARGV[1], ARGV[2], ARGV[3]

-- target is where an entry leads, or nil when no proxy can send a request there.
local function target(entry)
  local authority = string.match(string.lower(entry), '^%s*http://([^/?#%s]+)')
  return authority and string.gsub(authority, '^.*@', '')
end

local entries = redis.call('LRANGE', list, 1, -1)
local closed = {}
for _, member in ipairs(redis.call('SMEMBERS', dead)) do
  local position = string.match(member, '^%s*%+?(%d+)') -- as JavaScript's parseInt reads it
  if position then closed[tonumber(position)] = true end
end

local failed, positions, open = target(url), {}, false
for i, entry in ipairs(entries) do
  if entry == url then
    positions[#positions + 1] = i - 1
  elseif not closed[i - 1] then
    local other = target(entry)
    open = open or (other ~= nil and other ~= failed)
  end
end
if #positions == 0 or not open then return 0 end

for _, position in ipairs(positions) do redis.call('SADD', dead, position) end
redis.call('PEXPIRE', dead, ttl)
redis.call('PUBLISH', 'dead', string.format('%s;%s;%d;%d', host, url, positions[1], #entries))
return #positions
