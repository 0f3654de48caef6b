"""The table of guards: what each promises in words, the text that takes it out, and which checks should miss it.

One line a guard where that is readable: this file is read as a list.
"""

import dataclasses

_LUA, _STAGES = "worker/groupage_worker/lua", "worker/groupage_worker/stages"
_SETTLE, _SUBMIT = "producers/groupage/lua/settle.lua", "producers/groupage/lua/submit.lua"
_GROWS = "'fence', string.format('%.0f', math.max(1, now - tonumber(known[4] or 0)))"


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """One guard, and what takes it out.

    Attributes:
        guard: In words.
        file: Under the root.
        old: Stands there exactly once.
        new: Stands there instead.
        finders: Names in `FINDERS`, those most likely to notice first.
    """

    guard: str
    file: str
    old: str
    new: str
    finders: tuple[str, ...] = ("scripts", "stages", "simulation")


MUTATIONS = (
    Mutation(
        "a commit needs the fence",
        f"{_LUA}/commit.lua",
        "if redis.call('HGET', batch, 'fence') ~= fence then",
        "if false then",
    ),
    Mutation("the fence grows with every begin", f"{_LUA}/begin.lua", _GROWS, "'fence', 0"),
    Mutation("a fence of the lost history is not given out again", f"{_LUA}/begin.lua", _GROWS, "'fence', 1", ("history",)),
    Mutation("what a lost history sent is not closed as empty", "worker/groupage_worker/pipeline.py", "        if move.state is BatchState.CLOSED:\n            epochs", "        if False:\n            epochs", ("history",)),
    Mutation("what left a batch for its child is the child's", f"{_STAGES}/adopter.py", "while elsewhere and ", "while False and ", ("history",)),
    Mutation("who died after the last answer left nothing to ask", f"{_STAGES}/answerer.py", "batch.id, owed) if owed else []", "batch.id, owed)", ("history",)),
    Mutation("begins without a commit are counted", f"{_LUA}/begin.lua", "'runs', 1", "'runs', 0",
             ("scripts", "stages", "sweep rude", "simulation")),
    Mutation("a commit clears that count", f"{_LUA}/commit.lua", "'runs', 0, 'deaths', 0, unpack", "'deaths', 0, unpack"),
    Mutation("a reply is written once (NX)", _SETTLE, "'NX', 'PX', ttl", "'PX', ttl"),
    Mutation("settling removes the request", _SETTLE, "  redis.call('UNLINK', unpack(freed, from, math.min(from + 999, #freed)))\n", ""),
    Mutation(
        "only the batch that owes a reply settles it",
        _SETTLE,
        "(not manifest or (owed and string.sub(owed, -13) == accepted))",
        "true",
    ),
    Mutation(
        "a reply of an earlier life of an id is not this one's",
        _SETTLE,
        "(owed and string.sub(owed, -13) == accepted)",
        "owed",
    ),
    Mutation("a settled request leaves its manifest", _SETTLE, "    redis.call('HDEL', manifest, unpack(paid, from, math.min(from + 999, #paid)))\n", ""),
    Mutation("settling a waiting request uncounts it", _SETTLE, "if string.sub(head, 1, 1) == 'w' then", "if false then"),
    Mutation("the same id is accepted once", _SUBMIT, "value, 'NX', 'PX', ttl)", "value, 'PX', ttl)"),
    Mutation("a settled id is not accepted again", _SUBMIT, "    if known ~= '' then\n      if code == 'a'", "    if false then\n      if code == 'a'"),
    Mutation("the same id with another body is a conflict", _SUBMIT, "code = known == digest and 'k' or 'c'", "code = 'k'"),
    Mutation("a submit is on the deadline wheel", _SUBMIT, "      names[#names + 1] = producer .. ':' .. id\n", ""),
    Mutation("admission stops at the lane's bound", _SUBMIT, "math.min(max_open - open, my_max_open - my_open)", "my_max_open - my_open"),
    Mutation("a claimed request is marked", f"{_LUA}/claim.lua", "      redis.call('SETRANGE', key, 0, 'c')\n", ""),
    Mutation("a sealed manifest takes no claims", f"{_LUA}/claim.lua", "if is[2] or not is[1] then", "if not is[1] then"),
    Mutation("a manifest that is not open takes no claims", f"{_LUA}/claim.lua", "if is[2] or not is[1] then", "if is[2] then", ("time travel",)),
    Mutation("a step stays due while its batch has a record", f"{_LUA}/unschedule.lua", "if redis.call('EXISTS', batch) == 1 then", "if false then", ("time travel",)),
    Mutation(
        "a batch of the lost history is believed only with its file",
        f"{_STAGES}/resolver.py",
        "if batch.epoch != epoch:",
        "if False:",
        ("time travel",),
    ),
    Mutation("a claim keeps to the tokens reserved", f"{_LUA}/claim.lua", "if tokens + t > max_tokens or bytes", "if bytes"),
    Mutation(
        "a stale queue entry is no request",
        f"{_LUA}/claim.lua",
        "if string.sub(head, 1, 1) == 'w' and string.sub(head, 53, 65) == accepted then",
        "if head ~= '' then",
    ),
    Mutation("a requeue takes the entry off the manifest", f"{_LUA}/requeue.lua", "    redis.call('HDEL', manifest, field)\n", ""),
    Mutation("a requeue marks the request as waiting", f"{_LUA}/requeue.lua", "    redis.call('SETRANGE', key, 0, 'w')\n", ""),
    Mutation("a requeue counts the attempt", f"{_LUA}/requeue.lua", "if add > 0 then", "if false then"),
    Mutation("a batch opens only within the quota", f"{_LUA}/open_batch.lua", "if reserved + tokens > limit then", "if false then"),
    Mutation("a child's tokens are its parent's", f"{_LUA}/split_batch.lua", "string.format('%.0f', held - tokens)", "string.format('%.0f', held)"),
    Mutation("a moved request leaves the parent's manifest", f"{_LUA}/split_manifest.lua", "    redis.call('HDEL', parent, ARGV[i])\n", "",
             ("scripts", "stages", "sweep split", "simulation")),
    Mutation("a new attempt takes its reservation along", f"{_LUA}/commit.lua", "    redis.call('HDEL', quota, ARGV[5])\n    redis.call('HSET', quota, ARGV[6], held)\n", "    redis.call('HSET', quota, ARGV[6], held)\n"),
    Mutation(
        "a create that was cut short is never posted again",
        f"{_STAGES}/submitter.py",
        "        if batch.runs > 1:\n            told",
        "        if False:\n            told",
        ("stages", "sweep rude", "simulation"),
    ),
    Mutation(
        "an unclear create is looked for",
        f"{_STAGES}/submitter.py",
        "return Move(state=BatchState.RESOLVING, fields=told, reason=error.code)",
        "return Move(state=BatchState.UPLOADED, fields=told, reason=error.code)",
        ("stages", "sweep rude", "simulation"),
    ),
    Mutation(
        "an upload that was cut short is looked for",
        f"{_STAGES}/submitter.py",
        "if batch.uploads <= 1 and batch.runs <= 1:",
        "if True:",
        ("scripts", "stages", "sweep rude", "simulation"),
    ),
    Mutation(
        "the intent to create is committed first",
        f"{_STAGES}/submitter.py",
        '        return Move(state=BatchState.CREATING, fields={**fields, "retries": batch.retries})',
        "        import dataclasses\n\n        return await self.create_step(dataclasses.replace(batch, intent_at_ms=now, runs=1))",
        ("sweep rude", "simulation", "stages"),
    ),
    Mutation(
        "a create that slept lets go",
        f"{_STAGES}/submitter.py",
        "POST_WITHIN_S = 5.0",
        "POST_WITHIN_S = 5e9",
        ("stages", "simulation"),
    ),
    Mutation(
        "a child waits for its parent's split",
        f"{_STAGES}/submitter.py",
        "if parent and parent.state in {BatchState.SPLITTING, BatchState.DELIVERING}:",
        "if False:",
        ("stages", "sweep split", "simulation"),
    ),
    Mutation(
        "the settle window is waited for",
        f"{_STAGES}/resolver.py",
        "if now - batch.intent_at_ms < window_s * 1000 or looks < LOOKS_MIN:",
        "if False:",
        ("stages", "sweep rude", "simulation"),
    ),
    Mutation(
        "a batch is looked for before a new attempt",
        f"{_STAGES}/resolver.py",
        "        if found:\n",
        "        if False:\n",
        ("stages", "sweep rude", "simulation"),
    ),
    Mutation(
        "the input file is deleted as a fence",
        f"{_STAGES}/resolver.py",
        "                await context.client(batch).delete_file(batch.input_file_id)\n",
        "                pass\n",
        ("stages", "simulation", "sweep rude"),
    ),
    Mutation(
        "batches without metadata are known by their input file",
        f"{_STAGES}/resolver.py",
        "or may_be_this:",
        "or False:",
        ("stages", "simulation"),
    ),
    Mutation(
        "tokens are held until the remote batch ends",
        f"{_STAGES}/submitter.py",
        '        fields={"remote_id": remote_id, "remote_status": status, "submitted_at_ms": context.clock.now_ms()},\n',
        '        fields={"remote_id": remote_id, "remote_status": status, "submitted_at_ms": context.clock.now_ms()},\n        reservation="release",\n',
        ("stages", "simulation", "sweep lines"),
    ),
    Mutation(
        "remote files are deleted at the end",
        f"{_STAGES}/janitor.py",
        "if file_id and await context.client(batch).delete_file(file_id):",
        "if False:",
        ("stages", "sweep lines"),
    ),
    Mutation(
        "files of a batch at work are not swept",
        f"{_STAGES}/janitor.py",
        "if not is_used and await",
        "if await",
        ("stages", "simulation"),
    ),
    Mutation(
        "both files are read",
        f"{_STAGES}/deliverer.py",
        "            (batch.error_file_id, batch.error_read_bytes),\n",
        "",
        ("stages", "sweep lines"),
    ),
    Mutation(
        "what no line spoke of is requeued",
        f"{_STAGES}/deliverer.py",
        "        if not await delivery.finish(is_reread=is_reread, is_last=batch.cuts >= CUTS_MAX):\n",
        "        if False:\n",
        ("stages", "simulation"),
    ),
    Mutation(
        "a passed deadline is answered",
        f"{_STAGES}/expirer.py",
        "if header and header.deadline_at_ms < (slot + 1) * DUE_SLOT_MS",
        "if False",
        ("stages", "sweep lines"),
    ),
    Mutation(
        "the room for a moved batch keeps the target's limit",
        f"{_LUA}/move_batch.lua",
        "if reserved > tonumber(ARGV[3]) then",
        "if false then",
        ("scripts", "scheduling"),
    ),
    Mutation(
        "a wish to move takes the fence",
        f"{_LUA}/move_batch.lua",
        "redis.call('HINCRBY', batch, 'fence', 1)\n",
        "",
        ("scheduling",),
    ),
    Mutation(
        "a batch that has begun is not moved",
        f"{_STAGES}/tracker.py",
        "is_free = remote.status is RemoteStatus.VALIDATING or batch.move_reason",
        "is_free = True or batch.move_reason",
        ("scheduling",),
    ),
    Mutation(
        "an unclear answer is paid once more at most",
        f"{_STAGES}/answerer.py",
        "ASKS_MAX = 2",
        "ASKS_MAX = 9",
        ("scheduling",),
    ),
    Mutation(
        "what a sweep gives back belongs to nobody",
        f"{_LUA}/release_orphan.lua",
        "if not is[1] and (redis.call('HGET', parent, 'target') or '') ~= '' then",
        "if false then",
        ("scripts", "scheduling"),
    ),
    Mutation(
        "creates are posted once",
        "worker/groupage_worker/azure/client.py",
        'return await self._calls.once(Op.CREATE, "POST", "/batches", json=body, read=_batch)',
        'return await self._calls.repeat(Op.CREATE, "POST", "/batches", read=_batch)',
        ("azure", "stages"),
    ),
    Mutation("the rest of a moved batch keeps its room", f"{_LUA}/give_up.lua", "if redis.call('EXISTS', rest) == 1 then", "if false then", ("scheduling",)),
    Mutation("who slept asks for nothing online", f"{_LUA}/intend.lua", "if redis.call('HEXISTS', manifest, ARGV[1]) == 0 then", "if false then", ("history",)),
    Mutation("what a newer step asks online is its own", f"{_LUA}/intend.lua", "if newest > fence and", "if false and", ("history",)),
    Mutation("no slot that was filled meanwhile is passed over", f"{_LUA}/turn.lua", "if held then", "if false then", ("scripts",)),
    Mutation("a manifest that is lost says nothing of who waits", "worker/groupage_worker/store/requests.py", "if not await self._redis.exists(keys.manifest(lane, batch)):", "if False:", ("history",)),
    Mutation("nothing is cancelled for what a lost history says", f"{_STAGES}/tracker.py", 'return "" if context.epochs.is_frozen else "nobody_waits"', 'return "nobody_waits"', ("history",)),
    Mutation("nothing asked online is given back by who lost the fence", f"{_STAGES}/answerer.py", "if not await context.batches.holds(batch):", "if False:", ("history",)),
    Mutation("nothing is asked online while frozen", f"{_STAGES}/answerer.py", "        if context.epochs.is_frozen:\n            return Move(", "        if False:\n            return Move(", ("history",)),
    Mutation("what was lost counts as asked once", f"{_STAGES}/answerer.py", "if batch.epoch != context.epochs.number(batch.lane):", "if False:", ("history",)),
    Mutation("an earlier attempt of a file is not this one's", f"{_STAGES}/resolver.py", "or may_be_this:", "or has_file:", ("history",)),
    Mutation("the one that is left is not convicted for others", f"{_STAGES}/splitter.py", "if owed and batch.lines > 1:", "if False:", ("history",)),
    Mutation("a batch is adopted once in an epoch", f"{_STAGES}/surveyor.py", "record.epoch != context.epochs.number(record.lane)\n                and ", "", ("history",)),
    Mutation("an unreadable file ends the wait", f"{_STAGES}/recoverer.py", "batch.runs >= UNREADABLE_RUNS", "False", ("history",)),
    Mutation("nothing ends while frozen", f"{_STAGES}/tracker.py", "            if context.epochs.is_frozen:\n", "            if False:\n", ("history",)),
    Mutation("an old copy of a file is left alone", f"{_STAGES}/surveyor.py", "if not context.epochs.is_frozen and self._is_old(file):", "if False:", ("history",)),
    Mutation("a freeze is ended by its own number", f"{_LUA}/unfreeze.lua", "if redis.call('HGET', epoch, 'number') ~= ARGV[1] then", "if false then", ("history",)),
    Mutation("a split holds only together with its child", f"{_LUA}/commit.lua", "if redis.call('EXISTS', KEYS[6]) == 0 then", "if false then", ("history",)),
    Mutation("the nodes of a cluster are asked for again", "producers/groupage/cluster.py", "= known | struck", "= known", ("producers",)),
    Mutation("each lane of a cluster has an epoch", "worker/groupage_worker/store/epochs.py", "lanes if is_cluster else tuple", "tuple", ("cluster",)),
    Mutation("a producer follows the epoch of its lane on a cluster", "producers/groupage/epoch.py", "isinstance(redis, RedisCluster)", "False", ("cluster",)),
    Mutation("a ticket of an older history is doubted", "producers/groupage/intake.py", "if self._epoch.turn != turn:", "if False:", ("producers",)),
    Mutation("of two with one id the first stands", "producers/groupage/intake.py", "while not all(map(names.isdisjoint, under_way.values())):", "while False:", ("producers",)),
    Mutation("a beat of before the loss confirms nothing", "producers/groupage/lookup.py", " or beat > first or ", " or beat >= first or ", ("producers",)),
    Mutation("each beat is larger than the last", f"{_LUA}/beat.lua", "math.max(beat + 1, tonumber(now))", "math.max(beat, tonumber(now))", ("history",)),
    Mutation("what was seen of an attempt ends with it", "worker/groupage_worker/store/batches.py", "{**Batch.fresh(), **fields,", "{**fields,", ("history",)),
    Mutation("a batch that had no file to read convicts nobody", f"{_STAGES}/consequences.py", "if batch.state is BatchState.SUBMITTED and not verdict.lines and", "if False and", ("creates",)),
    Mutation("who loses two creates loses the requests", f"{_STAGES}/resolver.py", "        if batch.unclear_creates > 1:\n", "        if False:\n", ("stages",)),
    Mutation("a failed batch with results is an answer", "worker/groupage_worker/azure/wire.py", " and not (self.output_file_id or self.error_file_id)", "", ("unnamed",)),
    Mutation("a record of before the upload is led to what was sent", f"{_STAGES}/surveyor.py", "return named if is_before_upload and", "return named if False and", ("unnamed",)),
    Mutation("what says nothing is looked for by its file", f"{_STAGES}/surveyor.py", '"" if remote.is_unpaid and not remote.metadata else ', "", ("unnamed",)),
    Mutation("a failed batch that says nothing is not what became of a create", f"{_STAGES}/resolver.py", " and not remote.is_unpaid", "", ("unnamed",)),
    Mutation("a batch that says nothing is known by the record that has it", f"{_STAGES}/surveyor.py", "        if record.remote_id == remote.id:\n", "        if False:\n", ("history",)),
    Mutation("a batch that is listed and not there hides no other", f"{_STAGES}/surveyor.py", "                except NotFound:\n", "                except ZeroDivisionError:\n", ("unnamed",)),
    Mutation("a batch without metadata is asked who it is", f"{_STAGES}/janitor.py", "            if remote.metadata:\n", "            if False:\n", ("creates",)),
    Mutation("what only its file names is ended by a record of this epoch", f"{_STAGES}/janitor.py", "batch.epoch == context.epochs.number(batch.lane) and ", "", ("unnamed",)),
    Mutation("a sweep asks for the epoch before it ends what only its file names", f"{_STAGES}/janitor.py", "            await context.epochs.beat(batch.lane)\n            if", "            if", ("unnamed",)),
    Mutation("the input file of a batch that nothing else names stays while it runs", f"{_STAGES}/janitor.py", "file.id in running or (", "(", ("unnamed",)),
)  # fmt: skip
