-- Part of scripts that look along a deadline wheel: slots from first to last that hold anything, at most `most`, in order.
local function filled_slots(begin, first, last, most)
  local found = {}
  -- asked for by the hundred: most of a wheel is empty, and a call costs more than a look
  for start = first, last, 100 do
    local names = {}
    for slot = start, math.min(start + 99, last) do
      names[#names + 1] = begin .. string.format('%d', slot)
    end
    if redis.call('EXISTS', unpack(names)) > 0 then
      for place, name in ipairs(names) do
        if redis.call('EXISTS', name) == 1 then
          found[#found + 1] = start + place - 1
          if #found == most then
            return found
          end
        end
      end
    end
  end
  return found
end
