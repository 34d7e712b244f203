-- Hark 007: many workers for one consumer: registering, sharing partitions, taking over, opening windows.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (7, 'serving');

drop function hark.register(text, text[], text, bigint, timestamptz);
drop function hark.claim(text, integer, uuid, bigint, integer, boolean);
drop function hark.window(text, integer, uuid, bigint, hark.position);
drop function hark.acknowledge(text, integer, uuid, bigint, hark.position, bigint, integer, bigint);
drop function hark.renew(text, integer, uuid, bigint, integer, bigint);
drop function hark.record_failure(text, integer, uuid, bigint, bigint, integer, text);
drop function hark.release(text, integer, uuid, bigint);
drop function hark.raise_fenced(text, integer, bigint);

-- Tells the workers of a consumer ('' is every consumer) to look at once at what was changed for them.
create function hark.nudge(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('hark.wake', true), '') <> 'off' and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('hark_control', $1);
  end if;
end
$$;

create function hark.raise_fenced(consumer text, partitions integer[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'this worker no longer serves all of the partitions % of consumer "%"',
    array_to_string($2, ', '), $1
    using errcode = 'HK005',
      hint = 'Another worker has taken over, or the consumer was moved or removed. Claim them again.';
end
$$;

create function hark.raise_no_consumer(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'there is no consumer "%"', $1
    using errcode = 'HK007', hint = 'Register it first; somebody may have removed it.';
end
$$;

create function hark.as_set(names text[]) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select coalesce(array_agg(distinct n.name collate "C" order by n.name collate "C"), '{}') from unnest($1) n (name) $$;

-- Registers a consumer where there is none of that name (returns true). Else what it is becomes what is given
-- here: where that differs, the generation rises and every worker that was started with something else is
-- fenced off, so that in a rolling deployment no old worker can move past what only the new ones want.
--
-- A channel added to a known consumer is read from where the consumer stands, unless channel_starts has an
-- earlier start for it: [{"channel": …, "kind": "beginning" | "id" | "time", "id": …, "time": …}]. The number
-- of partitions counts at registration only: see hark.repartition.
create function hark.register(
  consumer text, channels text[], start_kind text default 'beginning',
  start_id bigint default null, start_time timestamptz default null,
  filter jsonb default null, transactional boolean default false, partitions integer default 1,
  channel_starts jsonb default null
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  known hark.consumers;
  start hark.position;
  earlier record;
  since hark.position;
  added text[] := $2;
begin
  if partitions is null or partitions < 1 or partitions > 1024 then
    raise exception 'a consumer cannot have % partitions', coalesce(partitions::text, 'null')
      using errcode = 'HK006', hint = 'Give a number from 1 to 1024.';
  end if;
  if exists (
    select from hark.consumers c where c.name = $1 and hark.as_set(c.channels) = hark.as_set($2)
      and c.filter is not distinct from $6 and c.transactional = $7
  ) then
    return false;
  end if;
  perform hark.require_fresh_snapshot();
  -- Held against hark.clean: what is published and removed between this snapshot and this commit would be
  -- this consumer's, and gone.
  lock table hark.consumers in row exclusive mode;
  start := hark.start_position(start_kind, start_id, start_time);
  insert into hark.consumers (name, channels, filter, transactional, partitions)
  values ($1, $2, $6, $7, $8) on conflict do nothing;
  if found then
    insert into hark.partitions (consumer, partition, "position")
    select $1, n, start from generate_series(0, $8 - 1) n;
  else
    select * into known from hark.consumers c where c.name = $1 for no key update;
    if hark.as_set(known.channels) = hark.as_set($2) and known.filter is not distinct from $6
      and known.transactional = $7
    then
      return false;
    end if;
    added := array(select n.name from unnest($2) n (name) where n.name <> all (known.channels));
    update hark.consumers c set channels = $2, filter = $6, transactional = $7, generation = c.generation + 1
    where c.name = $1;
    perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
    update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;
    perform hark.nudge($1);
  end if;
  for earlier in
    select * from jsonb_to_recordset(coalesce(channel_starts, '[]'))
      as e (channel text, kind text, id bigint, "time" timestamptz)
    where e.kind <> 'now' and e.channel = any (added)
  loop
    since := hark.start_position_of(earlier.kind, earlier.id, earlier."time");
    insert into hark.replays (consumer, channels, next_id, to_id)
    values ($1, array[earlier.channel],
      1 + least(since.floor, (select min(t.low) from unnest(since.lows) t (low))), start.seen_max);
  end loop;
  return known.name is null;
end
$$;

-- hark.start_position for a transaction that has written, where only the ids matter.
create function hark.start_position_of(kind text, id bigint, "time" timestamptz) returns hark.position
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  p hark.position;
begin
  if kind = 'beginning' then
    p.floor := 0;
  elsif kind = 'id' and id >= 1 then
    p.floor := id - 1;
  elsif kind = 'time' and "time" is not null then
    select w.floor, w.lows into strict p.floor, p.lows
    from hark.waymarks w where w.taken_at <= $3 order by w.number desc limit 1;
  else
    raise exception 'a channel cannot start from % (id %, time %)', kind, id, "time"
      using errcode = 'HK006', hint = 'Give "beginning", an id, a time, or "now".';
  end if;
  return p;
end
$$;

-- Renews a worker's lease (where `renew`), and tells it what it may hold:
--   outcome    serve, or outdated: the consumer is something else by now than what this worker was started with
--   share      how many partitions are its fair share among the workers that live
--   mine       the partitions it holds, with their epochs
--   free       partitions that nobody holds
--   gone       partitions of an owner whose lease runs, but whose LISTEN session has ended: wait a second, so
--              that one that is only reconnecting can come back, then claim them with presume_gone
--   releasing  the number of partitions is to change: settle what is in hand and give everything back
create function hark.attend(
  consumer text, owner uuid, session bigint, lease_ms integer, renew boolean,
  channels text[], filter jsonb, transactional boolean
) returns table (
  outcome text, partitions integer, share integer, workers integer, mine integer[], epochs bigint[],
  free integer[], gone integer[], paused boolean, releasing boolean, changes bigint, replays boolean,
  next_due_ms double precision
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  place integer;
begin
  select * into c from hark.consumers k where k.name = $1;
  if not found then
    perform hark.raise_no_consumer($1);
  end if;
  if hark.as_set(c.channels) <> hark.as_set($6) or c.filter is distinct from $7 or c.transactional <> $8 then
    delete from hark.workers w where w.consumer = $1 and w.owner = $2;
    outcome := 'outdated';
    partitions := c.partitions;
    share := 0; workers := 0; mine := '{}'; epochs := '{}'; free := '{}'; gone := '{}';
    paused := c.paused_at is not null; releasing := false; changes := c.changes; replays := false;
    return next;
    return;
  end if;
  if renew or not exists (select from hark.workers w where w.consumer = $1 and w.owner = $2) then
    insert into hark.workers (consumer, owner, session, lease_until)
    values ($1, $2, $3, clock_timestamp() + make_interval(secs => lease_ms / 1000.0))
    on conflict on constraint workers_pkey do update
      set session = excluded.session, lease_until = excluded.lease_until,
        -- One that was taken for dead comes back as the youngest, and takes nothing from those who took over.
        joined_at = case when workers.lease_until > clock_timestamp() then workers.joined_at else clock_timestamp() end;
    if not found then
      raise exception 'the worker could not be entered' using errcode = 'XX000';
    end if;
  end if;
  if c.next_partitions is not null then
    perform hark.turn_partitions($1);
    select * into c from hark.consumers k where k.name = $1;
  end if;
  with others as materialized (
    select w.owner, w.session, w.joined_at, w.lease_until > clock_timestamp() as leased
    from hark.workers w where w.consumer = $1 and w.owner <> $2
  ),
  alive as materialized (
    select o.owner, o.joined_at,
      case when not o.leased then 'expired'
        -- Shared, so that two workers that ask at once do not take each other for the owner.
        when o.session is not null then case when pg_try_advisory_xact_lock_shared(o.session) then 'gone' else 'alive' end
        else 'alive' end as state
    from others o
  ),
  held as materialized (
    select s.partition, s.epoch, s.owner,
      case when s.owner is null then 'free' when s.owner = $2 then 'mine'
        else coalesce((select case a.state when 'expired' then 'free' else a.state end from alive a where a.owner = s.owner), 'free')
      end as state,
      c.barrier is not null and (s.position).target is null and (s.position).seen::text = c.barrier::text as settled
    from hark.partitions s where s.consumer = $1
  )
  select
    (select count(*) from alive a where a.state = 'alive') + 1,
    (select count(*) from alive a, hark.workers me where me.consumer = $1 and me.owner = $2
      and a.state = 'alive' and (a.joined_at, a.owner) < (me.joined_at, me.owner)),
    coalesce(array_agg(h.partition order by h.partition) filter (where h.state = 'mine'), '{}'),
    coalesce(array_agg(h.epoch order by h.partition) filter (where h.state = 'mine'), '{}'),
    coalesce(array_agg(h.partition order by h.partition) filter (where h.state = 'free' and not h.settled), '{}'),
    coalesce(array_agg(h.partition order by h.partition) filter (where h.state = 'gone'), '{}')
  into attend.workers, place, attend.mine, attend.epochs, attend.free, attend.gone
  from held h;
  outcome := 'serve';
  partitions := c.partitions;
  share := c.partitions / workers + case when place < c.partitions % workers then 1 else 0 end;
  paused := c.paused_at is not null;
  releasing := c.next_partitions is not null and c.barrier is null;
  changes := c.changes;
  replays := exists (select from hark.replays r where r.consumer = $1);
  select extract(epoch from d.deliver_at - clock_timestamp())::double precision * 1000 into next_due_ms
  from hark.delayed d order by d.deliver_at limit 1;
  if renew then
    -- Those who ended without a word; since when is remembered for those who drop inactive consumers.
    with ended as (
      delete from hark.workers w where w.consumer = $1 and w.lease_until < clock_timestamp() - interval '10 minutes'
      returning w.lease_until
    )
    update hark.partitions s set served_at = greatest(s.served_at, (select max(e.lease_until) from ended e))
    where s.consumer = $1 and s.partition = 0 and exists (select from ended);
  end if;
  return next;
end
$$;

-- Becomes the owner of those of the wanted partitions that nobody else has a right to. An owner that did not give
-- it back may have been ended by what it was handling: `crashes` counts them.
create function hark.claim(
  consumer text, wanted integer[], owner uuid, presume_gone boolean default false
) returns table (
  partition integer, epoch bigint, "position" text, in_window boolean, started text, crashes integer,
  suspect_id bigint, suspect_ends integer, incarnation text
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- A transaction of the last owner's may hold the row: see how the caller ends it.
set lock_timeout = '1s'
as $$
begin
  if not exists (
    select from hark.workers w where w.consumer = $1 and w.owner = $3 and w.lease_until > clock_timestamp()
  ) then
    return;
  end if;
  perform from hark.partitions s where s.consumer = $1 and s.partition = any (wanted)
  order by s.partition for update;
  return query
  with may as materialized (
    select s.partition, s.owner is not null and s.owner <> $3 as ended
    from hark.partitions s
    join hark.consumers c on c.name = s.consumer
    left join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = $1 and s.partition = any (wanted)
      and (c.next_partitions is null or c.barrier is not null)
      and case
        when s.owner is null or s.owner = $3 or w.owner is null or w.lease_until <= clock_timestamp() then true
        when presume_gone and w.session is not null then pg_try_advisory_xact_lock_shared(w.session)
        else false
      end
  )
  -- What is stored has survived any crash, which what a worker remembers may not have.
  update hark.partitions s set
    epoch = s.epoch + 1, owner = $3, "position".incarnation = null, served_at = clock_timestamp(),
    crashes = s.crashes + case when m.ended then 1 else 0 end,
    trying_id = null,
    suspect_id = case when m.ended and s.trying_id is not null then s.trying_id else s.suspect_id end,
    suspect_ends = case when not m.ended or s.trying_id is null then s.suspect_ends
      when s.trying_id = s.suspect_id then s.suspect_ends + 1 else 1 end
  from may m
  where s.consumer = $1 and s.partition = m.partition
  returning s.partition, s.epoch, s.position::text, (s.position).target is not null,
    pg_current_snapshot()::text, s.crashes, s.suspect_id, s.suspect_ends, hark.incarnation()::text;
end
$$;

-- The sessions in which an owner's handlers have transactions open: each holds this advisory lock.
create function hark.owner_key(owner uuid) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select hashtextextended($1::text, 5237) $$;

-- The keys of the owners of partitions that have no right to them any more.
create function hark.lost_owners(consumer text, numbers integer[], claimant uuid) returns table (key bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select hark.owner_key(s.owner)
  from hark.partitions s
  left join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
  where s.consumer = $1 and s.partition = any ($2) and s.owner <> $3
    and (w.owner is null or w.lease_until <= clock_timestamp()
      or case when w.session is null then false else pg_try_advisory_xact_lock_shared(w.session) end)
$$;

-- Opens a window up to a snapshot that is given rather than taken.
create function hark.window_open_to(p hark.position, target pg_snapshot, target_max bigint) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.position := p;
begin
  if w.target is null then
    w.target := $2;
    w.target_max := greatest(p.seen_max, $3);
    select least(p.floor, min(t.low)) into w.last_id
    from unnest(p.stragglers, p.lows) t (xid, low)
    where pg_visible_in_snapshot(t.xid, w.target);
  end if;
  return hark.window_open(w);
end
$$;

-- What an owner reads next: a position with a window open, and what the consumer reads. With `alike`, a position
-- whose window was opened after `p` was loaded, it is opened up to the same snapshot, so that the two can be one
-- from its end on. `bounded` says that the number of partitions is changing, so that every window counts; `settled`
-- that there is no more to read until it has changed.
create function hark.window(
  consumer text, owner uuid, held integer[], epochs bigint[], p hark.position, alike hark.position default null
) returns table (
  "position" hark.position, channels text[], filter jsonb, partitions integer, bounded boolean, settled boolean
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  served integer;
begin
  select count(*) into served
  from hark.partitions s
  where s.consumer = $1 and s.owner = $2
    and exists (select from unnest(held, epochs) h (partition, epoch) where h.partition = s.partition and h.epoch = s.epoch);
  if served <> cardinality(held) then
    perform hark.raise_fenced($1, $3);
  end if;
  select * into c from hark.consumers k where k.name = $1;
  bounded := c.barrier is not null;
  if (alike).incarnation is not null and (alike).incarnation <> hark.incarnation() then
    raise exception 'the server has restarted after a crash since that window was opened'
      using errcode = 'HK004', hint = 'Load the stored positions and open new windows.';
  end if;
  settled := c.barrier is not null and p.target is null and p.seen::text = c.barrier::text;
  "position" := case
    when p.target is null and c.barrier is not null then hark.window_open_to(p, c.barrier, c.barrier_max)
    when p.target is null and alike is not null then hark.window_open_to(p, (alike).target, (alike).target_max)
    else hark.window_open(p)
  end;
  channels := c.channels; filter := c.filter; partitions := c.partitions;
  return next;
end
$$;

-- As in 002, but for a window from a snapshot to the same snapshot, which brings nothing: were the floor to rise with
-- it, it would lag behind by nothing. Partitions that wait for others to get there are looked at again and again.
create or replace function hark.window_advance(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  w hark.position;
begin
  if p.target is null or p.last_id < p.target_max then
    return p;
  end if;
  if p.target::text = p.seen::text then
    w := p;
    w.target := null; w.target_max := null; w.last_id := null;
    return w;
  end if;
  w.seen := p.target;
  w.seen_max := p.target_max;
  w.floor := p.seen_max;
  w.incarnation := p.incarnation;
  select coalesce(array_agg(x.xid), '{}') into w.stragglers from pg_snapshot_xip(p.target) x (xid);
  w.lows := hark.lows_of(w.stragglers, p.stragglers, p.lows, p.floor);
  if w.floor - (select min(t.low) from unnest(w.lows) t (low)) > 1000 then
    w.lows := hark.raise_lows(w.stragglers, w.lows);
  end if;
  return w;
end
$$;

-- Moves past a window without storing that, to read ahead into the next one while this one is being handled: a
-- fence of its own, as its transaction takes a number after the opening and ends before the next.
create function hark.pass(p hark.position) returns hark.position
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.require_fresh_snapshot();
  if pg_current_xact_id() is null then
    return null;
  end if;
  return hark.window_advance(p);
end
$$;

-- One position of two that have seen the same: what either may still have to look at.
create function hark.merged(a hark.position, b hark.position) returns hark.position
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  m hark.position := a;
begin
  if (a).seen::text <> (b).seen::text or (a).target is not null or (b).target is not null then
    raise exception 'positions that have not seen the same cannot be one' using errcode = 'XX000';
  end if;
  m.seen_max := least(a.seen_max, b.seen_max);
  m.floor := least(a.floor, b.floor);
  select coalesce(array_agg(least(x.low, (select y.low from unnest(b.stragglers, b.lows) y (xid, low) where y.xid = x.xid))
    order by x.place), '{}')
  into m.lows
  from unnest(a.stragglers, a.lows) with ordinality x (xid, low, place);
  return m;
end
$$;

-- Gives partitions back, so that the next worker need not wait for the lease. Those that are no longer the
-- caller's are passed over.
create function hark.release(consumer text, owner uuid, held integer[], epochs bigint[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  released integer;
begin
  perform from hark.partitions s where s.consumer = $1 and s.partition = any (held) order by s.partition for update;
  update hark.partitions s set owner = null, crashes = 0, trying_id = null, suspect_id = null,
    suspect_ends = 0, served_at = clock_timestamp()
  from unnest(held, epochs) h (partition, epoch)
  where s.consumer = $1 and s.partition = h.partition and s.owner = $2 and s.epoch = h.epoch;
  get diagnostics released = row_count;
  if released > 0 then
    perform hark.nudge($1);
  end if;
  return released;
end
$$;

-- A worker's farewell.
create function hark.leave(consumer text, owner uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.workers w where w.consumer = $1 and w.owner = $2;
  perform hark.nudge($1);
end
$$;

revoke execute on all functions in schema hark from public;
