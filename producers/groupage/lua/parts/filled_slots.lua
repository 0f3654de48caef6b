-- Part of scripts that look along a deadline wheel: slots from first to last that hold anything, in order; no more than `most`, if given.
-- Most of a wheel is empty, and numbers cost more to write than to look for: hundreds are written and asked for as one.
local endings = {}
for ending = 0, 99 do
  endings[ending] = string.format('%02d', ending)
end
local function filled_slots(begin, first, last, most)
  local found = {}
  -- there are no slots below the first hundred: they lie in the first minutes of 1970
  for hundred = math.floor(first / 100), math.floor(last / 100) do
    local from, head = math.max(first - 100 * hundred, 0), begin .. string.format('%d', hundred)
    local names = {}
    for ending = from, math.min(last - 100 * hundred, 99) do
      names[#names + 1] = head .. endings[ending]
    end
    if redis.call('EXISTS', unpack(names)) > 0 then
      for place, name in ipairs(names) do
        if redis.call('EXISTS', name) == 1 then
          found[#found + 1] = 100 * hundred + from + place - 1
          if #found == most then
            return found
          end
        end
      end
    end
  end
  return found
end
