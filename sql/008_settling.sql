-- Hark 008: what became of notifications: acknowledged, waiting, done in a transaction, given up; and how the
-- number of partitions changes.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (8, 'settling');

-- Stores what an owner has done, all or nothing: how far each of its partitions is (positions: where a page
-- ended, or only through an id of that page; null where it has not moved), and what became of notifications that
-- did not simply succeed, a JSON array of
--   {"kind": "park", "id", "partition", "key", "state", "attempts", "due_ms", "error"}   it waits in hark.waiting
--   {"kind": "end", "id", "partition"}                                                     it waits no longer
--   {"kind": "dead", "id", "partition", "attempts", "error"}                               it is given up
-- Moves past windows that are read to their end, and returns the positions to go on from. It begins after those
-- windows were opened and in a transaction of its own, so it is the fence between them and the next.
create function hark.acknowledge(
  consumer text, owner uuid, held integer[], epochs bigint[], positions text[], throughs bigint[],
  handled bigint[], calm boolean[], outcomes json default null
) returns text[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here uuid;
  served integer;
  moved text[] := positions;
  p hark.position;
  complete_through bigint;
begin
  perform hark.require_fresh_snapshot();
  here := hark.incarnation();
  select count(*) into served from (
    select from hark.partitions s
    where s.consumer = $1 and s.owner = $2
      and exists (select from unnest(held, epochs) h (partition, epoch) where h.partition = s.partition and h.epoch = s.epoch)
    order by s.partition
    for update
  ) s;
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  for i in 1 .. cardinality(held) loop
    continue when positions[i] is null;
    if i > 1 and positions[i] = positions[i - 1] and throughs[i] is not distinct from throughs[i - 1] then
      moved[i] := moved[i - 1];
      continue;
    end if;
    p := positions[i]::hark.position;
    if p.incarnation is distinct from here then
      raise exception 'the server has restarted after a crash since this window was opened'
        using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
    end if;
    if throughs[i] is not null then
      p.last_id := throughs[i];
    else
      p := hark.window_advance(p);
    end if;
    moved[i] := p::text;
  end loop;
  update hark.partitions s set
    "position" = coalesce(h.moved::hark.position, s.position),
    handled = s.handled + h.handled,
    acknowledged_at = clock_timestamp(),
    served_at = clock_timestamp(),
    crashes = case when h.calm then 0 else s.crashes end,
    trying_id = case when h.calm then null else s.trying_id end,
    suspect_id = case when h.calm then null else s.suspect_id end,
    suspect_ends = case when h.calm then 0 else s.suspect_ends end
  from unnest(held, moved, $7, calm) h (partition, moved, handled, calm)
  where s.consumer = $1 and s.partition = h.partition;
  if outcomes is not null then
    perform hark.settle($1, outcomes);
  end if;
  if exists (select from hark.done d where d.consumer = $1 and d.partition = any (held)) then
    select i.rebased_through into complete_through from hark.install i;
    delete from hark.done d
    using hark.partitions s
    where d.consumer = $1 and d.partition = any (held) and s.consumer = $1 and s.partition = d.partition
      and coalesce(
        (select hark.is_consumed(l.id, l.xid, s.position, complete_through) from hark.log l where l.id = d.id),
        true);
  end if;
  return moved;
end
$$;

-- The outcomes of hark.acknowledge; its caller has checked whose they are.
create function hark.settle(consumer text, outcomes json) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into hark.waiting (consumer, id, partition, key, state, attempts, due_at, last_error, failed_at)
  select $1, o.id, o.partition, o.key, o.state, o.attempts,
    clock_timestamp() + make_interval(secs => coalesce(o.due_ms, 0) / 1000.0), left(o.error, 10000),
    case when o.error is not null then clock_timestamp() end
  from json_to_recordset(outcomes) as o (
    kind text, id bigint, partition integer, key text, state text, attempts integer,
    due_ms double precision, error text
  )
  where o.kind = 'park'
    -- Its handler's transaction may have committed since this was decided.
    and not exists (
      select from hark.done d where d.consumer = $1 and d.partition = o.partition and d.id = o.id
    )
  on conflict on constraint waiting_pkey do update set
    state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at,
    last_error = coalesce(excluded.last_error, waiting.last_error),
    failed_at = coalesce(excluded.failed_at, waiting.failed_at);
  with given_up as (
    select o.id, o.attempts, left(o.error, 10000) as error
    from json_to_recordset(outcomes) as o (kind text, id bigint, attempts integer, error text)
    where o.kind = 'dead'
  )
  insert into hark.dead (consumer, id, channel, key, payload, headers, created_at, attempts, error)
  select $1, g.id, coalesce(l.channel, w.channel), coalesce(l.key, w.key), coalesce(l.payload, w.payload),
    coalesce(l.headers, w.headers), coalesce(l.created_at, w.created_at), g.attempts, g.error
  from given_up g
  left join hark.log l on l.id = g.id
  left join hark.waiting w on w.consumer = $1 and w.id = g.id
  on conflict on constraint dead_pkey do update set
    attempts = excluded.attempts, error = excluded.error, died_at = clock_timestamp();
  delete from hark.waiting w
  using json_to_recordset(outcomes) as o (kind text, id bigint)
  where w.consumer = $1 and w.id = o.id and o.kind in ('end', 'dead');
  -- A position may not have passed it yet, where one before it is still in hand.
  insert into hark.done (consumer, partition, id)
  select $1, o.partition, o.id
  from json_to_recordset(outcomes) as o (kind text, id bigint, partition integer)
  join hark.partitions s on s.consumer = $1 and s.partition = o.partition
  join hark.log l on l.id = o.id
  cross join hark.install i
  where o.kind in ('end', 'dead') and not hark.is_consumed(l.id, l.xid, s.position, i.rebased_through)
  on conflict do nothing;
end
$$;

-- Begins a handler's transaction: who ends an owner finds its sessions by the lock, and the server ends one that
-- is idle for longer than its lease.
create function hark.begin_handling(owner uuid, lease_ms integer) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('idle_in_transaction_session_timeout', lease_ms::text, true);
  perform pg_advisory_xact_lock_shared(hark.owner_key(owner));
end
$$;

-- Ends a handler's transaction, as its last statement: refused where the caller is no longer the owner, which no
-- other can become before this transaction is over. What is done is remembered with it.
create function hark.finish(
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
  delete from hark.waiting w where w.consumer = $1 and w.id = any (ids);
  -- Also for one that waited: its position may not have passed it yet. The next acknowledgement knows.
  insert into hark.done (consumer, partition, id)
  select $1, n.partition, n.id from unnest(id_partitions, ids) n (partition, id)
  on conflict do nothing;
end
$$;

-- Remembers which notification is handled alone, before it is: whoever takes over then knows what ended the last
-- owner.
create function hark.trying(consumer text, owner uuid, partition integer, epoch bigint, id bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s set trying_id = $5
  where s.consumer = $1 and s.partition = $3 and s.owner = $2 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, array[$3]);
  end if;
end
$$;

-- What waits in partitions, in order of ids, without the notifications themselves, and whether the partition's
-- position has passed it: where not, it will be read again and is to be passed over then.
create function hark.waiting_of(consumer text, held integer[], after_id bigint, max_rows integer)
returns table (
  id bigint, partition integer, key text, state text, attempts integer, due_ms double precision, passed boolean
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.id, w.partition, w.key, w.state, w.attempts,
    greatest(0, extract(epoch from w.due_at - clock_timestamp()))::double precision * 1000,
    coalesce((
      select hark.is_consumed(l.id, l.xid, s.position, i.rebased_through)
      from hark.log l, hark.partitions s, hark.install i
      where l.id = w.id and s.consumer = w.consumer and s.partition = w.partition
    ), true)
  from hark.waiting w
  where w.consumer = $1 and w.partition = any ($2) and w.id > $3
  order by w.id
  limit $4
$$;

-- What is done beyond the positions of partitions.
create function hark.done_of(consumer text, held integer[]) returns table (id bigint, partition integer)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select d.id, d.partition from hark.done d where d.consumer = $1 and d.partition = any ($2) $$;

-- Whether partitions still have something unread that was committed in a snapshot.
create function hark.is_behind(consumer text, numbers integer[], target pg_snapshot) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
  select exists (
    select from hark.consumers c
    join hark.partitions s on s.consumer = c.name
    cross join hark.install i
    join hark.log l on l.id > least((s.position).floor, (select min(t.low) from unnest((s.position).lows) t (low)))
    where c.name = $1 and s.partition = any ($2)
      and l.channel = any (c.channels)
      and hark.partition_of(l.key, l.id, c.partitions) = s.partition
      and (c.filter is null or hark.matches(c.filter, l.key, l.payload, l.headers))
      and pg_visible_in_snapshot(l.xid, $3)
      and not hark.is_consumed(l.id, l.xid, s.position, i.rebased_through)
  )
$$;

-- The notifications of waiting rows, from the log or from their copies; a null channel where neither has one.
create function hark.waiting_rows(consumer text, ids bigint[])
returns table (id bigint, channel text, key text, payload jsonb, headers jsonb, created_at timestamptz)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.id, n.channel, n.key,
    case when pg_column_size(n.payload) <= 100000 or hark.readable_size(n.payload) is not null then n.payload end,
    n.headers, n.created_at
  from hark.waiting w
  left join lateral (
    select l.channel, l.key, l.payload, l.headers, l.created_at from hark.log l where l.id = w.id
    union all
    select w.channel, w.key, w.payload, w.headers, w.created_at where w.channel is not null
    limit 1
  ) n on true
  where w.consumer = $1 and w.id = any ($2)
  order by w.id
$$;

-- Moves some of what is to be replayed to hark.waiting: of a range, what the consumer's channels and filter want
-- and its positions have passed (the rest is still to come). Returns how many ids were looked at.
create function hark.feed(consumer text, batch integer default 500) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  r hark.replays;
  c hark.consumers;
  through bigint;
  looked integer;
  complete_through bigint;
begin
  select * into r from hark.replays x where x.consumer = $1 order by x.number limit 1 for update skip locked;
  if not found then
    return 0;
  end if;
  select * into c from hark.consumers k where k.name = $1;
  select i.rebased_through into complete_through from hark.install i;
  select max(l.id), count(*) into through, looked
  from (
    select l.id from hark.log l where l.id >= r.next_id and l.id <= r.to_id order by l.id limit batch
  ) l;
  insert into hark.waiting (consumer, id, partition, key, state)
  select $1, l.id, s.partition, l.key, 'replay'
  from hark.log l
  join hark.partitions s
    on s.consumer = $1 and s.partition = hark.partition_of(l.key, l.id, c.partitions)
  where l.id >= r.next_id and l.id <= through
    and l.channel = any (coalesce(r.channels, c.channels))
    and (c.filter is null or hark.matches(c.filter, l.key, l.payload, l.headers))
    and hark.is_consumed(l.id, l.xid, s.position, complete_through)
  on conflict do nothing;
  if looked < batch then
    delete from hark.replays x where x.number = r.number;
  else
    update hark.replays x set next_id = through + 1 where x.number = r.number;
  end if;
  update hark.consumers k set changes = k.changes + 1 where k.name = $1;
  perform hark.nudge($1);
  return looked;
end
$$;

-- Changes the number of a consumer's partitions. With one partition, or where all are at the same place, it is
-- done at once. Else the workers first give all of them back, then read each to one common snapshot; the
-- last of them to get there makes the change (hark.turn_partitions). No key is overtaken: what waits goes along.
create function hark.repartition(consumer text, partitions integer) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
begin
  if partitions is null or partitions < 1 or partitions > 1024 then
    raise exception 'a consumer cannot have % partitions', coalesce(partitions::text, 'null')
      using errcode = 'HK006', hint = 'Give a number from 1 to 1024.';
  end if;
  select * into c from hark.consumers k where k.name = $1 for no key update;
  if not found then
    perform hark.raise_no_consumer($1);
  end if;
  if c.barrier is not null and c.next_partitions <> $2 then
    raise exception 'consumer "%" is changing to % partitions', $1, c.next_partitions
      using errcode = 'HK006', hint = 'Let its workers finish that first.';
  end if;
  update hark.consumers k set next_partitions = nullif($2, case when c.barrier is null then c.partitions end)
  where k.name = $1;
  perform hark.turn_partitions($1);
  perform hark.nudge($1);
  return case when exists (select from hark.consumers k where k.name = $1 and k.next_partitions is not null)
    then 'pending' else 'done' end;
end
$$;
comment on function hark.repartition(text, integer) is
  'Changes the number of a consumer''s partitions: "done", or "pending" until its workers have read to a common point.';

-- A snapshot in which this transaction, which has a number, counts as running: its own does not list it.
create function hark.without_own(s pg_snapshot) returns pg_snapshot
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case when pg_current_xact_id() >= pg_snapshot_xmax(s) then s
    else format('%s:%s:%s', least(pg_snapshot_xmin(s), pg_current_xact_id()), pg_snapshot_xmax(s), (
      select string_agg(x.xid::text, ',' order by x.xid)
      from (select r.xid from pg_snapshot_xip(s) r (xid) union select pg_current_xact_id()) x
    ))::pg_snapshot end
$$;

-- Takes a change of partitions a step further where nobody who lives holds one.
create function hark.turn_partitions(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  places bigint;
  here hark.position;
  one hark.position;
  total bigint;
  highest bigint;
begin
  -- Not waited for: whoever has it does this.
  select * into c from hark.consumers k where k.name = $1 and k.next_partitions is not null for no key update skip locked;
  if not found then
    return;
  end if;
  perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
  if exists (
    select from hark.partitions s join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = $1 and w.lease_until > clock_timestamp()
  ) then
    return;
  end if;
  -- But for the incarnation, which says only who stored it.
  select count(distinct regexp_replace(s.position::text, ',[^,]*\)$', '')) into places
  from hark.partitions s where s.consumer = $1;
  if places > 1 then
    if c.barrier is null then
      -- From here on nobody's window reaches beyond the barrier: old owners are fenced off, and what is stored was
      -- opened before this statement's snapshot. What this transaction publishes is yet to come.
      update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;
      update hark.consumers k
      set barrier = hark.without_own(pg_current_snapshot()), barrier_max = hark.drawn() where k.name = $1;
      return;
    end if;
    if exists (
      select from hark.partitions s where s.consumer = $1
        and ((s.position).target is not null or (s.position).seen::text <> c.barrier::text)
    ) then
      return;
    end if;
  end if;
  for one in select (s.position).* from hark.partitions s where s.consumer = $1 loop
    here := case when here.seen is null or places = 1 then one else hark.merged(here, one) end;
  end loop;
  select sum(s.handled), max(s.epoch) into total, highest from hark.partitions s where s.consumer = $1;
  delete from hark.partitions s where s.consumer = $1;
  insert into hark.partitions (consumer, partition, "position", epoch, handled, served_at)
  select $1, n, here, highest + 1, case when n = 0 then total else 0 end, clock_timestamp()
  from generate_series(0, c.next_partitions - 1) n;
  update hark.waiting w set partition = hark.partition_of(w.key, w.id, c.next_partitions) where w.consumer = $1;
  update hark.done d set partition = hark.partition_of(l.key, l.id, c.next_partitions)
  from hark.log l where d.consumer = $1 and l.id = d.id;
  update hark.consumers k
  set partitions = c.next_partitions, next_partitions = null, barrier = null, barrier_max = null
  where k.name = $1;
  perform hark.nudge($1);
end
$$;

-- As in 004, for leases that belong to workers now.
create or replace function hark.rebase() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here bigint;
  highest xid8;
  own xid8;
  upgraded boolean;
  through bigint;
begin
  select c.system_identifier into here from pg_control_system() c;
  if exists (select from hark.install i where i.system_identifier = here) or pg_is_in_recovery() then
    return false;
  end if;
  lock table hark.log in share row exclusive mode;
  if exists (select from hark.install i where i.system_identifier = here) then
    return false;
  end if;
  own := pg_current_xact_id();
  select x.xid into highest from (
    (select l.xid from hark.log l order by l.xid desc limit 1)
    union all
    (select pg_snapshot_xmax(w.seen) from hark.waymarks w)
    union all
    (select greatest(pg_snapshot_xmax((p.position).seen),
      coalesce(pg_snapshot_xmax((p.position).target), pg_snapshot_xmax((p.position).seen)))
    from hark.partitions p)
  ) x order by x.xid desc limit 1;
  select i.written_by = i.xmin into upgraded from hark.install i;
  if upgraded and (highest is null or highest < own) then
    update hark.install set system_identifier = here;
    update hark.install i set written_by = i.xmin;
    return false;
  end if;
  through := hark.drawn();
  update hark.install set system_identifier = here, rebased_through = through;
  update hark.install i set written_by = i.xmin;
  delete from hark.incarnation;
  delete from hark.waymarks;
  insert into hark.waymarks values
    (0, '-infinity', '1:1:', through, 0, '{}', '{}', own),
    (1, clock_timestamp(), '1:1:', through, through, '{}', '{}', own);
  -- A common snapshot to read to means nothing here either: a change of partitions begins again.
  update hark.consumers c set barrier = null, barrier_max = null;
  delete from hark.workers;
  update hark.partitions p set
    "position" = row('1:1:'::pg_snapshot, through,
      least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))),
      '{}'::xid8[], '{}'::bigint[], null, null, null, null)::hark.position,
    epoch = p.epoch + 1, owner = null;
  return true;
end
$$;

revoke execute on all functions in schema hark from public;
