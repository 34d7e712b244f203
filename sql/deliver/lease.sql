-- Many workers for one consumer: heartbeats, sharing partitions, taking over, releasing.

-- A worker's heartbeat. It renews the lease if `renew`, and tells the worker which partitions it may own:
--   outcome    serve; or outdated, if the consumer's definition is no longer the one that this worker was
--              started with
--   share      how many partitions are its fair share among the living workers
--   mine       the partitions that it owns, whose epochs are in `epochs`
--   free       partitions without a living owner
--   gone       partitions of an owner whose lease runs, but whose LISTEN session has ended. Wait a second, so
--              that an owner that is only reconnecting can come back. Then claim them with presume_gone.
--   retention_due  call hark.apply_retention
--   releasing  the number of partitions is about to change: finish what is in hand and release every
--              partition
create or replace function hark.heartbeat(
  consumer text, owner uuid, session bigint, lease_ms integer, renew boolean,
  channels text[], filter jsonb, transactional boolean, name text default null
) returns table (
  outcome text, partitions integer, share integer, workers integer, mine integer[], epochs bigint[],
  free integer[], gone integer[], paused boolean, releasing boolean, changes bigint, replays boolean,
  next_due_ms double precision, next_schedule_ms double precision, retention_due boolean
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  place integer;
begin
  select * into c from hark.consumers k where k.name = $1;
  if not found then
    raise exception 'the consumer "%" has been removed', $1
      using errcode = 'HK007', hint = 'Run it again to register it as a new one, which begins at its start.';
  end if;
  if hark.as_set(c.channels) <> hark.as_set($6) or c.filter is distinct from $7 or c.transactional <> $8 then
    delete from hark.workers w where w.consumer = $1 and w.owner = $2;
    select count(*) into workers from hark.workers w where w.consumer = $1 and w.lease_until > clock_timestamp();
    outcome := 'outdated';
    partitions := c.partitions;
    share := 0; mine := '{}'; epochs := '{}'; free := '{}'; gone := '{}';
    paused := c.paused_at is not null; releasing := false; changes := c.changes; replays := false;
    return next;
    return;
  end if;
  if renew or not exists (select from hark.workers w where w.consumer = $1 and w.owner = $2) then
    insert into hark.workers (consumer, owner, session, name, lease_until)
    -- A worker that may not ask for its host's name gives :PID; the server knows the address.
    values ($1, $2, $3,
      case when starts_with($9, ':') then coalesce(host(inet_client_addr()), 'local') || $9 else $9 end,
      clock_timestamp() + make_interval(secs => lease_ms / 1000.0))
    on conflict on constraint workers_pkey do update
      set session = excluded.session, lease_until = excluded.lease_until,
        -- A worker that was taken for dead comes back as the youngest, and takes nothing from its successors.
        joined_at = case when workers.lease_until > clock_timestamp() then workers.joined_at else clock_timestamp() end;
    if not found then
      raise exception 'could not store the lease of the worker' using errcode = 'XX000';
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
      c.barrier is not null and s.target is null and s.seen = c.barrier as settled
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
  into heartbeat.workers, place, heartbeat.mine, heartbeat.epochs, heartbeat.free, heartbeat.gone
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
  select extract(epoch from s.next_at - clock_timestamp())::double precision * 1000 into next_schedule_ms
  from hark.schedules s where s.next_at is not null order by s.next_at limit 1;
  retention_due := hark.retention_due();
  if renew then
    -- Workers that ended without leaving. The end of their last lease is stored for hark.drop_inactive.
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

-- Makes a worker the owner of those wanted partitions that no other worker has a right to. An owner that
-- did not release a partition may have been ended by a notification that it was handling: `crashes`
-- counts these owners. With skip_locked it passes over partitions whose rows another transaction has locked.
create or replace function hark.claim(
  consumer text, wanted integer[], owner uuid, presume_gone boolean default false, skip_locked boolean default false
) returns table (
  partition integer, epoch bigint, seen hark.marks, target hark.marks, last_id bigint, after_id bigint, crashes integer,
  suspect_id bigint, suspect_ends integer, incarnation text
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
-- A transaction of the last owner may hold the row. The caller then ends that owner's sessions
-- (hark.lost_owners).
set lock_timeout = '1s'
as $$
begin
  if not exists (
    select from hark.workers w where w.consumer = $1 and w.owner = $3 and w.lease_until > clock_timestamp()
  ) then
    return;
  end if;
  if skip_locked then
    wanted := array(
      select s.partition from hark.partitions s where s.consumer = $1 and s.partition = any (wanted)
      order by s.partition for update skip locked
    );
  else
    perform from hark.partitions s where s.consumer = $1 and s.partition = any (wanted)
    order by s.partition for update;
  end if;
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
  update hark.partitions s set
    epoch = s.epoch + 1, owner = $3, served_at = clock_timestamp(),
    crashes = s.crashes + case when m.ended then 1 else 0 end,
    alone_id = null, halted = null,
    suspect_id = case when m.ended and s.alone_id is not null then s.alone_id else s.suspect_id end,
    suspect_ends = case when not m.ended or s.alone_id is null then s.suspect_ends
      when s.alone_id = s.suspect_id then s.suspect_ends + 1 else 1 end
  from may m
  where s.consumer = $1 and s.partition = m.partition
  returning s.partition, s.epoch, (select a.mark from hark.kept_marks a where a.number = s.seen),
    (select b.mark from hark.kept_marks b where b.number = s.target), s.last_id, s.after_id, s.crashes, s.suspect_id, s.suspect_ends,
    hark.incarnation()::text;
end
$$;

-- The key of an owner's advisory lock. Each session in which a handler of that owner has a transaction
-- open holds it.
create or replace function hark.owner_key(owner uuid) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select hashtextextended($1::text, 5237) $$;

-- The advisory lock keys of owners that no longer have a right to their partitions.
create or replace function hark.lost_owners(consumer text, numbers integer[], claimant uuid) returns table (key bigint)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select hark.owner_key(s.owner)
  from hark.partitions s
  left join hark.workers w on w.consumer = s.consumer and w.owner = s.owner
  where s.consumer = $1 and s.partition = any ($2) and s.owner <> $3
    and (w.owner is null or w.lease_until <= clock_timestamp()
      or case when w.session is null then false else pg_try_advisory_xact_lock_shared(w.session) end)
$$;

-- Releases partitions, so that the next worker need not wait for the lease to end. Partitions that the caller
-- no longer owns are skipped.
create or replace function hark.release(consumer text, owner uuid, held integer[], epochs bigint[]) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  released integer;
begin
  perform from hark.partitions s where s.consumer = $1 and s.partition = any (held) order by s.partition for update;
  update hark.partitions s set owner = null, crashes = 0, alone_id = null, suspect_id = null,
    suspect_ends = 0, served_at = clock_timestamp()
  from unnest(held, epochs) h (partition, epoch)
  where s.consumer = $1 and s.partition = h.partition and s.owner = $2 and s.epoch = h.epoch;
  get diagnostics released = row_count;
  if released > 0 then
    perform hark.request_look($1);
  end if;
  return released;
end
$$;

-- Removes a worker that stops.
create or replace function hark.leave(consumer text, owner uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.workers w where w.consumer = $1 and w.owner = $2;
  perform hark.request_look($1);
end
$$;
