-- project.lua writes the frontends of vhosts again from their members, after settle times have ended or another program
-- may have written the keys.
--
-- ARGV[1]  settings, see settings.lua
-- ARGV[2]  JSON: [{host, shard, term, settled}...]; term is absent if the caller is no worker, else it must be
--          the term of the vhost's shard; settled is url -> the departure whose settle time is over
--
-- Returns {number of written frontends, number of frontends written for another reason than settled backends, number of
-- refused vhosts, the refused vhosts, repaired keys}.
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
