-- project.lua has the frontends of vhosts follow their members once more: backends have settled, or another program
-- may have written the keys.
--
-- ARGV[1]  settings, see vhost.lua
-- ARGV[2]  JSON: [{host, shard, term, settled}...]; term is absent if the caller is no worker, else it has to be
--          that of the vhost's shard; settled is url -> the departure whose settle time is over
--
-- Returns {lists written, how many of them for another reason than settled backends, number of refused vhosts, the
-- refused vhosts, repaired keys}.
local wrote, mended, refused = 0, 0, {}
for _, v in ipairs(cjson.decode(ARGV[2])) do
  if v.term and not vhost.owned(v.shard, v.term) then
    refused[#refused + 1] = v.host
  elseif vhost.touch(v.host, nil, nil, nil, v.settled) then
    wrote = wrote + 1
    if not v.settled then mended = mended + 1 end
  end
end
local reply = {wrote, mended, #refused}
for _, host in ipairs(refused) do reply[#reply + 1] = host end
for _, key in ipairs(vhost.repaired) do reply[#reply + 1] = key end
return reply
