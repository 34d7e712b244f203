-- Many workers for one consumer: heartbeats, sharing partitions, taking over, releasing.

-- The heartbeat of a process for its workers: one call for all that ask. It renews the lease of the
-- process if `renew`, and tells each worker which partitions it may own. It waits for no lock of another: what
-- one consumer's workers hold up must not end the lease of all.
--   tags         for each worker, what an earlier answer said of its consumer's definition; null if unknown
--   definitions  for each worker whose tag is null, the definition that it was started with, as JSON:
--                {"channels": [...], "filter": ..., "transactional": ...}
--   absent       workers of this process that have not asked for the length of a lease: they lose their share
-- The answer has a row for each worker, by its number `n` in the arrays:
--   outcome    serve; outdated, if the consumer's definition is no longer the one that this worker was started
--              with; removed, if there is no such consumer; unknown, if its tag is no longer right: ask with the
--              definition
--   tag        names the definition and the consumer, in short
--   share      how many partitions are its fair share among the living workers
--   mine       the partitions that it owns, whose epochs are in `epochs`
--   free       partitions without a living owner
--   gone       partitions of an owner whose lease runs, but whose LISTEN session has ended. Wait a second, so
--              that an owner that is only reconnecting can come back. Then claim them with presume_gone.
--   releasing  the number of partitions is about to change: finish what is in hand and release every
--              partition
--   turning    the number of partitions is being changed: call hark.turn_partitions, and ask again
--   retention_due  call hark.apply_retention
--   mark       in the first row, the newest mark if it sees all that is committed: a reader that stands there need
--              not look. Null if there is something new.
create or replace function hark.heartbeat(
  process uuid, session bigint, lease_ms integer, renew boolean, name text,
  consumers text[], owners uuid[], tags text[], definitions json default null, absent uuid[] default '{}'
) returns table (
  n integer, outcome text, tag text, partitions integer, share integer, workers integer, mine integer[],
  epochs bigint[], free integer[], gone integer[], paused boolean, releasing boolean, turning boolean,
  changes bigint, replays boolean, next_due_ms double precision, next_schedule_ms double precision,
  retention_due boolean, mark text
)
language plpgsql volatile security definer rows 10 set search_path = pg_catalog, pg_temp
-- Planned once a session. The lists are short, and what they are joined with is found by its key.
set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
declare
  lease_before timestamptz;
  fits boolean[];
  found_tags text[];
  due_in double precision;
  schedule_in double precision;
  retains boolean;
  -- First: with a number of its own, the transaction could not tell.
  newest constant text := hark.content_of(hark.new_mark(false, true));
begin
  select p.lease_until into lease_before from hark.leases p where p.id = $1;
  if $4 or lease_before is null then
    insert into hark.processes (id, session, name, lease_until)
    values ($1, $2, hark.process_name($5), clock_timestamp() + make_interval(secs => $3 / 1000.0))
    on conflict on constraint processes_pkey do update
      set session = excluded.session, lease_until = excluded.lease_until, renewed_at = clock_timestamp();
    if not found then
      raise exception 'could not store the lease of the process' using errcode = 'XX000';
    end if;
    -- Workers that were taken for dead come back as the youngest, and take nothing from their successors.
    if lease_before <= clock_timestamp() then
      update hark.workers w set joined_at = clock_timestamp(), yielded_at = null where w.process = $1;
    end if;
  end if;
  if cardinality($10) > 0 then
    delete from hark.workers w where w.process = $1 and w.owner = any ($10);
  end if;
  select array_agg(a.fits order by a.n), array_agg(a.tag order by a.n) into fits, found_tags
  from (
    select k.n, hark.tag_of(c.generation, c.created_at) as tag,
      case when c.name is null then null
        when k.tag = hark.tag_of(c.generation, c.created_at) then true
        when k.tag is not null then null
        else hark.is_defined_as(c.channels, c.filter, c.transactional, $9 -> (k.n::integer - 1))
      end as fits
    from unnest($6, $8) with ordinality k (consumer, tag, n)
    left join hark.consumers c on c.name = k.consumer
  ) a;
  if false = any (fits) then
    delete from hark.workers w using unnest($6, $7, fits) k (consumer, owner, fits)
    where w.consumer = k.consumer and w.owner = k.owner and not k.fits;
  end if;
  if exists (
    select from unnest($6, $7, fits) k (consumer, owner, fits)
    where k.fits and not exists (select from hark.workers w where w.consumer = k.consumer and w.owner = k.owner)
  ) then
    -- A consumer that is being removed is passed over. Otherwise all would wait, and fail with it.
    with kept as materialized (
      select c.name from hark.consumers c where c.name = any ($6) order by c.name for key share skip locked
    )
    insert into hark.workers (consumer, owner, process)
    select k.consumer, k.owner, $1
    from unnest($6, $7, fits) k (consumer, owner, fits) join kept on kept.name = k.consumer
    where k.fits
    on conflict do nothing;
    -- One that had lain down and was not told so, as the connection was lost.
    delete from hark.asleep a using unnest($6, $7) k (consumer, owner)
    where a.consumer = k.consumer and a.owner = k.owner;
  end if;
  select extract(epoch from d.deliver_at - clock_timestamp())::double precision * 1000 into due_in
  from hark.delayed d order by d.deliver_at limit 1;
  select extract(epoch from s.next_at - clock_timestamp())::double precision * 1000 into schedule_in
  from hark.schedules s where s.next_at is not null order by s.next_at limit 1;
  retains := hark.retention_due();
  if $4 then
    perform hark.forget_workers($6);
  end if;
  return query
  with asked as materialized (
    select k.n::integer as n, k.owner, k.fits, k.tag, c.name, c.partitions, c.barrier, c.next_partitions, c.paused_at,
      c.changes
    from unnest($6, $7, fits, found_tags) with ordinality k (consumer, owner, fits, tag, n)
    left join hark.consumers c on c.name = k.consumer
  ),
  others as materialized (
    select k.n, w.owner, coalesce(w.yielded_at, w.joined_at) as since, w.process
    from asked k join hark.workers w on w.consumer = k.name
    where w.owner <> k.owner
  ),
  processes as materialized (
    select p.id,
      case when p.lease_until <= clock_timestamp() then 'expired'
        -- Shared, so that two workers that ask at once do not take each other for the owner.
        when p.session is not null and p.session is distinct from $2
          then case when pg_try_advisory_xact_lock_shared(p.session) then 'gone' else 'alive' end
        else 'alive' end as state
    from hark.leases p where p.id in (select o.process from others o)
  ),
  alive as materialized (
    select o.n, o.owner, o.since, p.state from others o join processes p on p.id = o.process
  ),
  crews as materialized (
    select k.n, count(a.n) filter (where a.state = 'alive') as others,
      count(a.n) filter (where a.state <> 'expired') as leased,
      count(a.n) filter (
        where a.state = 'alive' and (a.since, a.owner) < (coalesce(me.yielded_at, me.joined_at), me.owner)
      ) as place
    from asked k
    left join hark.workers me on me.consumer = k.name and me.owner = k.owner
    left join alive a on a.n = k.n
    group by k.n
  ),
  held as materialized (
    select k.n, s.partition, s.epoch,
      case when s.owner is null then 'free' when s.owner = k.owner then 'mine'
        else coalesce((
          select case a.state when 'expired' then 'free' else a.state end
          from alive a where a.n = k.n and a.owner = s.owner
        ), 'free')
      end as state,
      k.barrier is not null and s.target is null and s.seen = k.barrier as settled
    from asked k join hark.partitions s on s.consumer = k.name
    where k.fits
  ),
  shares as materialized (
    select h.n,
      array_agg(h.partition order by h.partition) filter (where h.state = 'mine') as mine,
      array_agg(h.epoch order by h.partition) filter (where h.state = 'mine') as epochs,
      array_agg(h.partition order by h.partition) filter (where h.state = 'free' and not h.settled) as free,
      array_agg(h.partition order by h.partition) filter (where h.state = 'gone') as gone
    from held h group by h.n
  )
  select k.n,
    case when k.fits then 'serve' when k.name is null then 'removed' when k.fits is null then 'unknown' else 'outdated' end,
    k.tag, k.partitions,
    case when k.fits then k.partitions / (w.others + 1)::integer
      + case when w.place < k.partitions % (w.others + 1) then 1 else 0 end else 0 end,
    case when k.fits then w.others + 1 else w.leased end::integer,
    coalesce(s.mine, '{}'), coalesce(s.epochs, '{}'), coalesce(s.free, '{}'), coalesce(s.gone, '{}'),
    k.paused_at is not null, k.fits and k.next_partitions is not null and k.barrier is null,
    k.fits and k.next_partitions is not null, k.changes,
    k.fits and exists (select from hark.replays r where r.consumer = k.name),
    due_in, schedule_in, retains, case when k.n = 1 then newest end
  from asked k
  join crews w on w.n = k.n
  left join shares s on s.n = k.n
  order by k.n;
end
$$;

-- What people know a process by. One that may not ask for its host's name gives :PID; the server knows the address.
create or replace function hark.process_name(given text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$ select case when starts_with($1, ':') then coalesce(host(inet_client_addr()), 'local') || $1 else $1 end $$;

-- Whether a consumer's definition is the one that a worker was started with: see hark.heartbeat.
create or replace function hark.is_defined_as(
  channels text[], filter jsonb, transactional boolean, definition json
) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select hark.as_set($1) = hark.as_set(array(select json_array_elements_text($4 -> 'channels')))
    and $2 is not distinct from ($4 ->> 'filter')::jsonb and $3 = ($4 ->> 'transactional')::boolean
$$;

-- Names a consumer and its definition, in short. Without a SET clause PostgreSQL inlines it. A heartbeat calls it
-- twice for each consumer, and a call takes 10 us.
create or replace function hark.tag_of(generation bigint, created_at timestamptz) returns text
language sql stable
as $$ select $1 operator(pg_catalog.||) '@'::pg_catalog.text operator(pg_catalog.||) extract(epoch from $2) $$;

-- Forgets the workers of consumers that ended without leaving, ten minutes after their lease. The end of their
-- last lease is stored for hark.drop_inactive. Consumers whose first partition is locked wait for the next time.
create or replace function hark.forget_workers(consumers text[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  if not exists (
    select from hark.crew w
    where w.consumer = any ($1) and w.lease_until < clock_timestamp() - interval '10 minutes'
  ) then
    return;
  end if;
  with kept as materialized (
    select s.consumer from hark.partitions s where s.consumer = any ($1) and s.partition = 0
    order by s.consumer for update skip locked
  ),
  ended as (
    delete from hark.workers w using hark.processes p, kept k
    where p.id = w.process and w.consumer = k.consumer and p.lease_until < clock_timestamp() - interval '10 minutes'
    returning w.consumer, p.lease_until
  )
  update hark.partitions s set served_at = greatest(s.served_at, e.served_at)
  from (select x.consumer, max(x.lease_until) as served_at from ended x group by 1) e
  where s.consumer = e.consumer and s.partition = 0;
  perform hark.forget_processes('10 minutes');
end
$$;

-- Forgets processes without workers whose lease ended that long ago.
create or replace function hark.forget_processes(since interval) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.processes p
  using (
    select x.id from hark.processes x
    where x.lease_until < clock_timestamp() - $1 and not exists (select from hark.workers w where w.process = x.id)
    for update skip locked
  ) gone
  where p.id = gone.id;
end
$$;

-- Makes a worker the owner of those wanted partitions that no other worker has a right to. An owner that
-- did not release a partition may have been ended by a notification that it was handling: `crashes`
-- counts these owners. With skip_locked it passes over partitions whose rows another transaction has locked.
--   tag  of the definition that the worker serves: it gets nothing if the consumer has another by now
create or replace function hark.claim(
  consumer text, wanted integer[], owner uuid, presume_gone boolean default false, skip_locked boolean default false,
  tag text default null
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
    select from hark.crew w where w.consumer = $1 and w.owner = $3 and w.lease_until > clock_timestamp()
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
    left join hark.crew w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = $1 and s.partition = any (wanted)
      and (c.next_partitions is null or c.barrier is not null)
      -- A transaction that changes it locks the rows, and they were waited for.
      and ($6 is null or $6 = hark.tag_of(c.generation, c.created_at))
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
  left join hark.crew w on w.consumer = s.consumer and w.owner = s.owner
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

-- Has a worker give way, if notifications of its partitions wait for a newer program, a worker stands by, and
-- one has joined since this worker did so or gave way. From then on it counts as the youngest, so that its
-- partition becomes another worker's share. Returns whether it gave way. Each worker that joins has each older one
-- give way once at most: where all programs are too old, the partition comes to rest.
create or replace function hark.yield_to_newer(consumer text, owner uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.workers w set yielded_at = clock_timestamp()
  where w.consumer = $1 and w.owner = $2
    and exists (
      select from hark.partitions s join hark.waiting f on f.consumer = s.consumer and f.partition = s.partition
      where s.consumer = $1 and s.owner = $2 and f.state = 'newer'
    )
    and exists (
      select from hark.crew o
      where o.consumer = $1 and o.owner <> $2 and o.joined_at > coalesce(w.yielded_at, w.joined_at)
        and hark.is_alive(o.lease_until, o.session)
    )
    and (
      select count(*) from hark.crew o
      where o.consumer = $1 and o.owner <> $2 and hark.is_alive(o.lease_until, o.session)
    ) >= (select c.partitions from hark.consumers c where c.name = $1);
  if not found then
    return false;
  end if;
  perform hark.request_look($1);
  return true;
end
$$;

-- Removes a worker that stops, and its process if that stops with it. `unserved` releases what it owns: it has entered,
-- and claimed nothing since.
create or replace function hark.leave(
  consumer text, owner uuid, process uuid default null, unserved boolean default false
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if $4 then
    update hark.partitions s set owner = null where s.consumer = $1 and s.owner = $2;
  end if;
  delete from hark.workers w where w.consumer = $1 and w.owner = $2;
  delete from hark.processes p where p.id = $3;
  perform hark.request_look($1);
end
$$;

-- Has a drain that does not wait become a worker that owns one partition, if there is one for it. One call decides,
-- so that each of many drains that begin at once is told by its first statement. To become a worker first would have
-- the others give partitions back. Further partitions are claimed as by any worker. Returns
--   entered   it is a worker, and owns a partition
--   busy      living workers own all partitions or are about to, or other transactions hold the rows of the rest
--   register  there is no such consumer, or it has another definition or a version below the given one, also if that
--             changed during the call. This comes before "busy": registration refuses a definition that the living
--             workers do not have, or takes the consumer over
--   join      become a worker as any other: the consumer is paused, its row is locked, or the number of its
--             partitions is about to change
-- Most drains of many are busy. Those in a new session are told soonest without PL/pgSQL.
create or replace function hark.enter(
  consumer text, owner uuid, process uuid, lease_ms integer, name text, definition json, version integer
) returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select case
    when not pg_is_in_recovery() and hark.free_for($1, $2) = '{}' and exists (
      select from hark.consumers c
      where c.name = $1 and c.version >= $7 and hark.is_defined_as(c.channels, c.filter, c.transactional, $6)
    ) then 'busy'
    else hark.take_free($1, $2, $3, $4, $5, $6, $7) end
$$;

-- The partitions of a consumer without a living owner, and those of this owner. Null if there is no such consumer.
create or replace function hark.free_for(consumer text, owner uuid) returns integer[]
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(s.partition order by s.partition) filter (where w.owner is null or w.owner = $2), '{}')
  from hark.partitions s
  left join hark.crew w on w.consumer = s.consumer and w.owner = s.owner and w.lease_until > clock_timestamp()
  where s.consumer = $1
  having count(*) > 0
$$;

create or replace function hark.take_free(
  consumer text, owner uuid, process uuid, lease_ms integer, name text, definition json, version integer
) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  known hark.consumers;
  free integer[];
  is_new boolean;
begin
  perform hark.require_fresh_snapshot();
  select * into known from hark.consumers c where c.name = $1;
  if known.name is null or known.version < $7
    or not hark.is_defined_as(known.channels, known.filter, known.transactional, $6)
  then
    return 'register';
  elsif known.paused_at is not null or known.next_partitions is not null then
    return 'join';
  end if;
  -- One after the other: each sees what the one before has claimed. But any role can take this lock, so it is waited
  -- for 50 ms at most. Without it several try for one partition, and all but one find its row locked or owned.
  for tries in 1 .. 50 loop
    exit when pg_try_advisory_xact_lock(hashtextextended($1, 5238));
    perform pg_sleep(0.001);
  end loop;
  free := hark.free_for($1, $2);
  -- Living workers that own nothing are about to claim what is free.
  if cardinality(free) <= (
    select count(*) from hark.crew w
    where w.consumer = $1 and w.owner <> $2 and w.lease_until > clock_timestamp()
      and not exists (select from hark.partitions s where s.consumer = $1 and s.owner = w.owner)
  ) then
    return 'busy';
  end if;
  -- Not if it is being removed: see hark.heartbeat.
  perform from hark.consumers c where c.name = $1 for key share skip locked;
  if not found then
    return 'join';
  end if;
  insert into hark.processes (id, name, lease_until)
  values ($3, hark.process_name($5), clock_timestamp() + make_interval(secs => $4 / 1000.0)) on conflict do nothing;
  is_new := found;
  insert into hark.workers (consumer, owner, process) values ($1, $2, $3) on conflict do nothing;
  for i in 1 .. cardinality(free) loop
    perform from hark.claim($1, free[i:i], $2, false, true, hark.tag_of(known.generation, known.created_at));
    if found then
      return 'entered';
    end if;
  end loop;
  delete from hark.workers w where w.consumer = $1 and w.owner = $2;
  delete from hark.processes p where p.id = $3 and is_new;
  -- If the definition has changed since, no worker need serve the partitions. To register again tells that.
  return case when exists (
    select from hark.consumers c where c.name = $1
      and hark.tag_of(c.generation, c.created_at) = hark.tag_of(known.generation, known.created_at)
  ) then 'busy' else 'register' end;
end
$$;
