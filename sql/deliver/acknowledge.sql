-- What became of notifications: acknowledged, done in a transaction, given up.

-- Stores what an owner has done, all or nothing.
--   marks     the marks that the positions refer to, by content
--   seen, targets, last_ids, after_ids
--             for each partition, its position: numbers of marks, and ids. `seen` is null if it has not moved.
--   outcomes  a JSON array of notifications that did not simply succeed:
--     {"kind": "wait", "id", "partition", "key", "state", "attempts", "due_ms", "error"}  it waits
--     {"kind": "end", "id", "partition", "stored"}                                        it is finished
--     {"kind": "dead", "id", "partition", "attempts", "error"}                            it is given up
--   An error is the text of a JSON string: see hark.error_text.
--   "stored": true in an outcome says that the notification has a row in hark.waiting. If the row is gone by
--   now, the notification was discarded, and the outcome does not count. Of an end, false says that it has never
--   waited: a row that is there by now stays.
--
-- Unless `patient`, it waits for no partition. If a handler's transaction that is about to commit holds one, it
-- stores nothing and returns false.
--
-- The ownership of partitions is looked up one by one: as a join, the planner compared each with each.
create or replace function hark.acknowledge(
  consumer text, owner uuid, held integer[], epochs bigint[], marks hark.marks[], seen bigint[], targets bigint[],
  last_ids bigint[], after_ids bigint[], handled bigint[], calm boolean[], outcomes json default null,
  patient boolean default true
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- Planned once a session: it is called often, with lists of about the same length.
set plan_cache_mode = force_generic_plan set jit = off
as $$
declare
  served integer;
begin
  if patient then
    select count(*) into served
    from (select h.* from unnest(held, epochs) h (partition, epoch) order by h.partition) h
    cross join lateral (
      select from hark.partitions s
      where s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2 limit 1
      for update
    ) s;
  else
    select count(*) into served
    from (select h.* from unnest(held, epochs) h (partition, epoch) order by h.partition) h
    cross join lateral (
      select from hark.partitions s
      where s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2 limit 1
      for update skip locked
    ) s;
    if served <> cardinality(held) and cardinality(held) = (
      select count(*) from unnest(held, epochs) h (partition, epoch)
      join hark.partitions s on s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2
    ) then
      return false;
    end if;
  end if;
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  perform hark.keep_marks(marks);
  update hark.partitions s set
    seen = coalesce(h.seen, s.seen),
    target = case when h.seen is null then s.target else h.target end,
    last_id = case when h.seen is null then s.last_id else h.last_id end,
    after_id = case when h.seen is null then s.after_id else h.after_id end,
    handled = s.handled + h.handled,
    acknowledged_at = clock_timestamp(),
    served_at = clock_timestamp(),
    crashes = case when h.calm then 0 else s.crashes end,
    alone_id = case when h.calm then null else s.alone_id end,
    suspect_id = case when h.calm then null else s.suspect_id end,
    suspect_ends = case when h.calm then 0 else s.suspect_ends end
  from unnest(held, $6, targets, last_ids, after_ids, $10, calm)
    h (partition, seen, target, last_id, after_id, handled, calm)
  where s.consumer = $1 and s.partition = h.partition;
  if outcomes is not null then
    perform hark.settle($1, outcomes);
  end if;
  if exists (select from hark.done d where d.consumer = $1 and d.partition = any (held)) then
    -- Thousands may be ahead of a position that hardly moves. Inside a window it has passed ids above its own only
    -- of earlier windows. Those go when it has passed them here too, or at the end.
    delete from hark.done d
    using hark.places p cross join lateral (
      select f.id from hark.done f
      where f.consumer = $1 and f.partition = p.partition
        and f.id <= case when p.target is null then 9223372036854775807 else p.last_id end
        and coalesce(
          (select hark.passed(l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id,
              (select i.rebased_through from hark.install i))
            from hark.log l where l.id = f.id),
          true)
      offset 0
    ) f
    where p.consumer = $1 and p.partition = any (held)
      and d.consumer = $1 and d.partition = p.partition and d.id = f.id;
  end if;
  return true;
end
$$;

-- Stores what the workers of a process have done, in one call: hark.acknowledge for each, without patience. `parts` is a
-- JSON array with the arguments of each, as text. What is refused for one worker does not count for the others, and a
-- hanging handler delays only its own consumer.
--   state     null if it is stored; 55P03 if a partition is locked; else the SQLSTATE of an error, with its message and
--             its hint
create or replace function hark.acknowledge_all(parts json) returns table (n integer, state text, message text, hint text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off
as $$
#variable_conflict use_column
declare
  part record;
  are_kept boolean := false;
begin
  if json_array_length(parts) > 1 then
    -- First, so that all sessions keep them in one order. If one cannot be kept, its worker is told below.
    begin
      perform hark.keep_marks(array(
        select x.content::hark.marks from (
          select distinct m.content
          from json_array_elements(parts) p (part) cross join lateral json_array_elements_text((p.part ->> 4)::json) m (content)
        ) x
      ));
      are_kept := true;
    exception when others then
      null;
    end;
  end if;
  -- In one order in all processes. (Nothing waits for a partition, but other rows are locked too.)
  for part in
    select p.number, array(select v.value from json_array_elements_text(p.part) with ordinality v (value, place)
      order by v.place) as given
    from json_array_elements(parts) with ordinality p (part, number)
    order by p.part ->> 0, p.part ->> 1
  loop
    n := part.number; state := null; message := null; hint := null;
    begin
      if not hark.acknowledge(
        part.given[1], part.given[2]::uuid, part.given[3]::integer[], part.given[4]::bigint[],
        case when not are_kept then
          array(select m.content::hark.marks from json_array_elements_text(part.given[5]::json) m (content)) end,
        string_to_array(part.given[6], ',', '')::bigint[], string_to_array(part.given[7], ',', '')::bigint[],
        string_to_array(part.given[8], ',', '')::bigint[], string_to_array(part.given[9], ',', '')::bigint[],
        part.given[10]::bigint[], part.given[11]::boolean[], part.given[12]::json, false
      ) then
        state := '55P03';
      end if;
    exception when others then
      get stacked diagnostics state = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    end;
    return next;
  end loop;
end
$$;

-- The text of an error, from the text of a JSON string. Characters that the database's encoding lacks stay
-- written as they are in JSON, such as \u2014. No failure may be lost for them.
create or replace function hark.error_text(quoted text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return left(quoted::jsonb #>> '{}', 10000);
exception when untranslatable_character or invalid_text_representation or feature_not_supported then
  return left(quoted, 10000);
end
$$;

-- Stores the outcomes of hark.acknowledge, which has checked that the caller owns the partitions.
-- Refuses an outcome of an unknown kind: it would be lost, and the position would pass its notification.
create or replace function hark.settle(consumer text, outcomes json) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  unknown record;
begin
  select o.kind, o.id into unknown from json_to_recordset(outcomes) as o (kind text, id bigint)
  where o.kind is null or o.kind not in ('wait', 'end', 'dead') limit 1;
  if found then
    raise exception 'the outcome of notification % is of kind %', coalesce(unknown.id::text, 'null'), coalesce(quote_literal(unknown.kind), 'null')
      using errcode = 'HK006', hint = 'Give wait, end or dead.';
  end if;
  insert into hark.waiting (consumer, id, partition, key, state, attempts, due_at, last_error, failed_at)
  select $1, o.id, o.partition, o.key, o.state, o.attempts,
    clock_timestamp() + make_interval(secs => coalesce(o.due_ms, 0) / 1000.0), hark.error_text(o.error),
    case when o.error is not null then clock_timestamp() end
  from json_to_recordset(outcomes) as o (
    kind text, id bigint, partition integer, key text, state text, attempts integer,
    due_ms double precision, error text, stored boolean
  )
  where o.kind = 'wait'
    -- A retried dead letter has rows in both tables if its position has not passed it.
    and case when o.stored then exists (select from hark.waiting w where w.consumer = $1 and w.id = o.id)
      -- Its handler's transaction may have committed since the worker decided this.
      else not exists (
        select from hark.done d where d.consumer = $1 and d.partition = o.partition and d.id = o.id
      ) end
  on conflict on constraint waiting_pkey do update set
    state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at,
    last_error = coalesce(excluded.last_error, waiting.last_error),
    failed_at = coalesce(excluded.failed_at, waiting.failed_at);
  perform hark.bury($1, o.id, o.attempts, hark.error_text(o.error))
  from json_to_recordset(outcomes) as o (kind text, id bigint, attempts integer, error text, stored boolean)
  where o.kind = 'dead'
    and (o.stored is not true or exists (select from hark.waiting w where w.consumer = $1 and w.id = o.id));
  delete from hark.waiting w
  using json_to_recordset(outcomes) as o (kind text, id bigint, stored boolean)
  -- A row of one that has not waited is new: an operator retries its dead letter of an earlier time.
  where w.consumer = $1 and w.id = o.id and (o.kind = 'dead' or o.kind = 'end' and o.stored is distinct from false);
  -- The position may not have passed it yet, if an earlier notification is still in hand.
  insert into hark.done (consumer, partition, id)
  select $1, o.partition, o.id
  from json_to_recordset(outcomes) as o (kind text, id bigint, partition integer)
  join hark.places p on p.consumer = $1 and p.partition = o.partition
  join hark.log l on l.id = o.id
  cross join hark.install i
  where o.kind in ('end', 'dead') and not hark.passed(
    l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id, i.rebased_through)
  on conflict do nothing;
end
$$;

-- Stores a dead letter with a copy of its notification. A damaged payload cannot be copied: then the dead letter
-- has none, and its consumer goes on.
create or replace function hark.bury(consumer text, id bigint, attempts integer, error text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into hark.dead (consumer, id, channel, key, payload, headers, created_at, attempts, error)
  select $1, $2, coalesce(l.channel, w.channel), coalesce(l.key, w.key), coalesce(l.payload, w.payload),
    coalesce(l.headers, w.headers), coalesce(l.created_at, w.created_at), $3, $4
  from (values ($2)) g (id)
  left join hark.log l on l.id = g.id
  left join hark.waiting w on w.consumer = $1 and w.id = g.id
  on conflict on constraint dead_pkey do update set
    attempts = excluded.attempts, error = excluded.error, died_at = clock_timestamp();
exception when others then
  if not hark.is_of_a_value(sqlstate) then
    raise;
  end if;
  insert into hark.dead (consumer, id, channel, key, created_at, attempts, error)
  select $1, $2, coalesce(l.channel, w.channel), coalesce(l.key, w.key), coalesce(l.created_at, w.created_at), $3, $4
  from (values ($2)) g (id)
  left join hark.log l on l.id = g.id
  left join hark.waiting w on w.consumer = $1 and w.id = g.id
  on conflict on constraint dead_pkey do update set
    attempts = excluded.attempts, error = excluded.error, died_at = clock_timestamp();
end
$$;

-- Begins a handler's transaction. A worker that takes over finds the old owner's sessions by this lock and
-- ends them. The server ends a session that is idle for longer than its lease.
create or replace function hark.begin_handling(owner uuid, lease_ms integer) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('idle_in_transaction_session_timeout', lease_ms::text, true);
  perform set_config('hark.handling', owner::text, true);
  -- Not waited for: any role can take this lock. Then a worker that takes over does not find this session, and
  -- waits until the server ends it.
  perform pg_try_advisory_xact_lock_shared(hark.owner_key(owner));
end
$$;

-- Ends a handler's transaction, as its last statement. Refused if the caller is no longer the owner. No
-- other worker can become the owner before this transaction is over. The finished notifications are stored
-- with it, in hark.done.
create or replace function hark.finish(
  consumer text, owner uuid, held integer[], epochs bigint[], ids bigint[], id_partitions integer[]
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  served integer;
begin
  select count(*) into served from (
    select from hark.partitions s
    where s.consumer = $1 and s.owner = $2
      and exists (select from unnest(held, epochs) h (partition, epoch) where h.partition = s.partition and h.epoch = s.epoch)
    order by s.partition
    for share
  ) s;
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  if coalesce(current_setting('hark.handling', true), '') <> owner::text then
    raise exception 'the handler has ended the transaction itself'
      using errcode = 'HK001', hint = 'Leave COMMIT and ROLLBACK to Hark. Throw an error to roll back.';
  end if;
  delete from hark.waiting w where w.consumer = $1 and w.id = any (ids);
  -- Also for a notification that waited: its position may not have passed it yet. The next acknowledgement
  -- removes the row if it has.
  insert into hark.done (consumer, partition, id)
  select $1, n.partition, n.id from unnest(id_partitions, ids) n (partition, id)
  on conflict do nothing;
end
$$;

-- Stores which notification is handled alone, before its handler starts. The next owner then knows what ended
-- the last one.
create or replace function hark.begin_alone(consumer text, owner uuid, partition integer, epoch bigint, id bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s set alone_id = $5
  where s.consumer = $1 and s.partition = $3 and s.owner = $2 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, array[$3]);
  end if;
end
$$;
