-- How far each consumer is, which workers serve it, and which consumers hold back cleaning.

create or replace function hark.version() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select v.version from hark.schema_version v $$;
comment on function hark.version() is 'The version of the installed schema.';

-- A digest of the installed functions: see hark.schema_version.
create or replace function hark.functions_digest() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select v.functions from hark.schema_version v $$;

-- What a consumer has still to read, by partition and time, at most max_count rows. They are committed, match
-- its channels and filter, and have not been passed by the position of their partition.
--
-- It looks at max_scanned ids above the positions, and at as many below, where few are left to read; or at 200 if
-- the time `until` has come. From then on it compares no row with a filter, which may take long. A row of nulls says
-- that there may be more.
create or replace function hark.unread_of(
  consumer text, max_count bigint, max_scanned bigint default 1000000, until timestamptz default 'infinity'
) returns table (
  partition integer, published timestamptz, channel text, id bigint
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
-- A range scan of the primary key, row by row, whatever the statistics say. There are few partitions.
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off set jit = off
as $$
  with place as materialized (
    select p.partition, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id, p.low_now, p.top
    from hark.places p where p.consumer = $1
  ),
  part as materialized (
    select min(f.low_now) as after, min(f.top) as through from place f
    union all
    select min(f.top), 9223372036854775807 from place f
  ),
  range as materialized (
    select l.id as from_id, p.through,
      least(l.id - 1 + case when clock_timestamp() < $4 then $3 else least($3, 200) end, p.through) as to_id
    from part p
    cross join lateral (select l.id from hark.log l where l.id > p.after and l.id <= p.through order by l.id limit 1) l
  ),
  -- Hashed: comparing with each of thousands of channels would take longer than all else.
  wanted as materialized (
    select distinct u.channel from hark.consumers c cross join lateral unnest(c.channels) u (channel) where c.name = $1
  )
  (
    select p.partition, l.created_at, l.channel, l.id
    from (
      -- The channel first: on a log that others keep busy, it leaves few rows for all that takes longer.
      select l.id, l.xid, l.channel, l.key, l.payload, l.headers, l.created_at
      from range r join hark.log l on l.id >= r.from_id and l.id <= r.to_id
      where l.channel in (select w.channel from wanted w) offset 0
    ) l
    cross join hark.consumers c
    cross join hark.install i
    join place p on p.partition = hark.partition_of(l.key, l.id, c.partitions)
    where c.name = $1
      and not hark.passed(
        l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id, i.rebased_through)
      and (c.filter is null
        or case when clock_timestamp() < $4 then hark.may_match(c.filter, l.key, l.payload, l.headers) end)
    limit $2
  )
  union all
  select null, null, null, null
  where exists (select from range r where exists (select from hark.log l where l.id > r.to_id and l.id <= r.through))
    or clock_timestamp() >= $4 and exists (select from range) and exists (
      select from hark.consumers c where c.name = $1 and c.filter is not null
    )
$$;

-- Whether a worker is alive: its lease runs and, if it has a LISTEN session, that session exists. The lock is
-- shared, so that two that ask at once do not take each other for the worker.
create or replace function hark.is_alive(lease_until timestamptz, session bigint) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select $1 > clock_timestamp() and case when $2 is null then true else not pg_try_advisory_xact_lock_shared($2) end
$$;

-- How far each consumer is. Counting stops at max_count: the exact size of a large backlog is not needed. It
-- also stops after max_scanned ids, and almost at once after max_ms for all consumers together. With
-- `unread_capped` there may be more.
create or replace function hark.status(
  max_count bigint default 100000, max_ms integer default 5000, max_scanned bigint default 1000000
) returns table (
  consumer text, channels text[], filter jsonb, transactional boolean, generation bigint,
  partitions integer, next_partitions integer, paused_at timestamptz, created_at timestamptz,
  unread bigint, oldest_unread timestamptz, lag_seconds double precision,
  waiting bigint, oldest_waiting timestamptz, blocked integer, dead bigint, replays integer,
  workers integer, served integer, owner uuid, worker text, lease_until timestamptz, served_at timestamptz,
  handled bigint, acknowledged_at timestamptz,
  failing_id bigint, attempts integer, last_error text, failed_at timestamptz, next_attempt_at timestamptz, unread_capped boolean,
  halted json, newer json, waiting_seconds double precision, failing bigint, standing_by integer
)
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
-- A consumer without dead letters would have those of all others read for it.
set enable_seqscan = off set enable_bitmapscan = off
as $$
  with patience as materialized (select clock_timestamp() + make_interval(secs => max_ms / 1000.0) as until),
  crew as materialized (
    select w.consumer, w.owner, w.name, w.lease_until, hark.is_alive(w.lease_until, w.session) as alive,
      exists (select from hark.partitions s where s.consumer = w.consumer and s.owner = w.owner) as serves
    from hark.crew w
  ),
  -- A worker that sleeps has read all, and what is published on its channels wakes it. What others have published since
  -- is no backlog, however far the position is behind.
  woken as materialized (select s.consumer from hark.sleeping() s where s.listening)
  select c.name, c.channels, c.filter, c.transactional, c.generation, c.partitions, c.next_partitions,
    c.paused_at, c.created_at, u.unread, u.oldest,
    coalesce(extract(epoch from greatest(clock_timestamp() - coalesce(u.oldest, b.published), interval '0'))::double precision, 0),
    (select count(*) from (select from hark.waiting w where w.consumer = c.name limit max_count) w),
    e.oldest,
    (select count(distinct w.partition)::integer from hark.waiting w where w.consumer = c.name and w.attempts > 0),
    (select count(*) from (select from hark.dead d where d.consumer = c.name limit max_count) d),
    (select count(*)::integer from hark.replays r where r.consumer = c.name),
    (select count(*)::integer from crew w where w.consumer = c.name and w.alive),
    p.served, o.owner, o.name, o.lease_until, p.served_at, p.handled, p.acknowledged_at,
    f.id, coalesce(f.attempts, 0), f.last_error, f.failed_at, f.due_at, u.capped,
    (select json_agg(h) from hark.halted_of(c.name) h),
    (
      select json_build_object('count', count(*), 'id', min(n.id),
        'reason', (array_agg(n.last_error order by n.id))[1])
      from (
        select w.id, w.last_error from hark.waiting w
        where w.consumer = c.name and w.state = 'newer' order by w.id limit max_count
      ) n
      having count(*) > 0
    ),
    coalesce(extract(epoch from greatest(clock_timestamp() - e.oldest, interval '0'))::double precision, 0),
    (
      select count(*) from (
        select from hark.waiting w
        where f.id is not null and w.consumer = c.name and w.attempts > 0 and w.state <> 'newer' limit max_count
      ) w
    ),
    (select count(*)::integer from crew w where w.consumer = c.name and w.alive and not w.serves)
  from hark.consumers c
  cross join lateral (
    select count(x.partition) as unread, min(x.published) as oldest,
      (count(*) > count(x.partition) or count(*) >= max_count)
        and (count(x.partition) > 0 or not exists (select from woken k where k.consumer = c.name)) as capped
    from patience y cross join lateral hark.unread_of(c.name, max_count, max_scanned, y.until) x
  ) u
  -- One that is so far behind that none was found: it may be as old as the first that its position has not passed.
  left join lateral (
    select min(x.created_at) as published
    from hark.places s
    cross join hark.install i
    cross join lateral (
      (
        select l.created_at
        from (select l.* from hark.log l where l.id > s.low_now and l.id <= s.top order by l.id limit 1000) l
        where not hark.passed(
          l.id, l.xid, s.after_id, s.seen_nothing, s.seen_snapshot, s.target_snapshot, s.last_id, i.rebased_through)
        order by l.id limit 1
      )
      union all
      (select l.created_at from hark.log l where l.id > s.top order by l.id limit 1)
    ) x
    where u.capped and u.oldest is null and s.consumer = c.name
  ) b on true
  cross join lateral (
    select sum(s.handled)::bigint as handled, max(s.acknowledged_at) as acknowledged_at,
      max(s.served_at) as served_at,
      count(*) filter (where w.alive)::integer as served
    from hark.partitions s left join crew w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = c.name
  ) p
  left join lateral (
    select s.owner, w.name, w.lease_until
    from hark.partitions s left join crew w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = c.name and s.owner is not null
    order by w.alive desc nulls last, w.lease_until desc nulls last, s.partition limit 1
  ) o on true
  left join lateral (
    select coalesce(w.created_at, l.created_at) as oldest from hark.waiting w left join hark.log l on l.id = w.id
    where w.consumer = c.name order by w.id limit 1
  ) e on true
  left join lateral (
    select w.id, w.attempts, w.last_error, w.failed_at, w.due_at from hark.waiting w
    where w.consumer = c.name and w.attempts > 0 and w.state <> 'newer' order by w.id limit 1
  ) f on true
  order by c.name
$$;
comment on function hark.status(bigint, integer, bigint) is
  'How far every consumer is, which workers serve it, and what it fails on.';

-- The partitions of one consumer. Counting stops at max_count over all of them, and as in hark.status.
create or replace function hark.partitions_of(
  consumer text, max_count bigint default 100000, max_scanned bigint default 1000000
) returns table (
  partition integer, unread bigint, oldest_unread timestamptz, waiting bigint, blocked boolean, owner uuid, worker text,
  lease_until timestamptz, epoch bigint, handled bigint, acknowledged_at timestamptz, served_at timestamptz,
  crashes integer, alone_id bigint, served boolean
)
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
  with unread as materialized (
    select u.partition, count(*) as count, min(u.published) as oldest
    from hark.unread_of($1, $2, $3, clock_timestamp() + interval '5 seconds') u group by 1
  ),
  waiting as materialized (
    select w.partition, count(*) as count, bool_or(w.attempts > 0) as blocked
    from hark.waiting w where w.consumer = $1 group by 1
  )
  select s.partition, coalesce(u.count, 0), u.oldest, coalesce(w.count, 0), coalesce(w.blocked, false), s.owner, k.name,
    k.lease_until, s.epoch, s.handled, s.acknowledged_at, s.served_at, s.crashes, s.alone_id,
    coalesce(hark.is_alive(k.lease_until, k.session), false)
  from hark.partitions s
  left join unread u on u.partition = s.partition
  left join waiting w on w.partition = s.partition
  left join hark.crew k on k.consumer = s.consumer and k.owner = s.owner
  where s.consumer = $1
  order by s.partition
$$;

-- The workers of one consumer and the partitions that each owns. Includes workers whose lease ended recently.
create or replace function hark.workers_of(consumer text) returns table (
  owner uuid, name text, alive boolean, lease_until timestamptz, joined_at timestamptz, listening boolean, partitions integer[]
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.owner, w.name, hark.is_alive(w.lease_until, w.session), w.lease_until, w.joined_at, w.session is not null,
    array(select s.partition from hark.partitions s where s.consumer = w.consumer and s.owner = w.owner order by 1)
  from hark.crew w
  where w.consumer = $1
  order by w.joined_at, w.owner
$$;

-- What one consumer has yet to retry or replay, the oldest first. Notifications that only wait for an earlier
-- one of their key are left out.
create or replace function hark.heads_of(consumer text, max_rows integer default 20) returns table (
  id bigint, partition integer, key text, state text, attempts integer, due_at timestamptz, last_error text,
  failed_at timestamptz, channel text
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.id, w.partition, hark.sendable(w.key), w.state, w.attempts, w.due_at, w.last_error, w.failed_at,
    hark.sendable(coalesce(w.channel, (select l.channel from hark.log l where l.id = w.id)))
  from hark.waiting w
  where w.consumer = $1 and w.state <> 'behind'
  order by w.id
  limit $2
$$;

-- What one consumer has yet to replay: see hark.replay.
create or replace function hark.replays_of(consumer text) returns table (
  number bigint, channels text[], next_id bigint, to_id bigint, created_at timestamptz
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select r.number, r.channels, r.next_id, r.to_id, r.created_at
  from hark.replays r where r.consumer = $1 order by r.number
$$;

-- The consumers that keep hark.clean from removing notifications published before a time, and when the oldest
-- of these was published. A position covers the whole log. So a consumer of one channel also holds
-- notifications of other channels, until it has looked past them.
create or replace function hark.holding("before" timestamptz default 'infinity') returns table (
  consumer text, oldest timestamptz, behind boolean, waiting boolean, replaying boolean, workers integer,
  paused_at timestamptz
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
  select c.name, least(p.oldest, w.oldest, r.oldest), p.oldest is not null, w.oldest is not null,
    r.oldest is not null,
    (select count(*)::integer from hark.crew k where k.consumer = c.name and hark.is_alive(k.lease_until, k.session)),
    c.paused_at
  from hark.consumers c
  cross join hark.install i
  -- Ids and times rise together: if the first notification that it has not passed is not old, none is.
  cross join lateral (
    select min(x.created_at) filter (where x.created_at < $1) as oldest
    from (
      select distinct on (s.seen, s.target, s.last_id, s.after_id) s.* from hark.places s where s.consumer = c.name
    ) s
    cross join lateral (
      -- Rows of transactions that ended late: a position that is served soon gets past them.
      (
        select l.created_at
        from (select l.* from hark.log l where l.id > s.low_now and l.id <= s.top order by l.id limit 10000) l
        where not hark.passed(
          l.id, l.xid, s.after_id, s.seen_nothing, s.seen_snapshot, s.target_snapshot, s.last_id, i.rebased_through)
        order by l.id limit 1
      )
      union all
      (select l.created_at from hark.log l where l.id > s.top order by l.id limit 1)
    ) x
  ) p
  cross join lateral (
    select min(x.created_at) filter (where x.created_at < $1) as oldest
    from (
      select l.created_at from hark.waiting h join hark.log l on l.id = h.id
      where h.consumer = c.name and h.channel is null order by h.id limit 1
    ) x
  ) w
  cross join lateral (
    select min(x.created_at) filter (where x.created_at < $1) as oldest
    from hark.replays y
    cross join lateral (
      select l.created_at from hark.log l where l.id >= y.next_id and l.id <= y.to_id order by l.id limit 1
    ) x
    where y.consumer = c.name
  ) r
  where least(p.oldest, w.oldest, r.oldest) is not null
  order by 2, 1
$$;
comment on function hark.holding(timestamptz) is 'The consumers because of which old notifications are kept.';

-- When a worker last served a consumer. If none ever did, when it was registered. In the future while a
-- worker has a lease.
create or replace function hark.last_served(consumer text) returns timestamptz
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select greatest(c.created_at,
    (select max(greatest(s.served_at, s.acknowledged_at)) from hark.partitions s where s.consumer = c.name),
    (select max(w.lease_until) from hark.crew w where w.consumer = c.name),
    -- A worker that sleeps serves it as soon as there is something to do.
    (select max(clock_timestamp()) from hark.asleep a where a.consumer = c.name and hark.is_asleep(a.session, a.wakes_at)))
  from hark.consumers c where c.name = $1
$$;

-- Removes the consumers that no worker has served since a time. With dry_run it only names them.
create or replace function hark.drop_inactive(since timestamptz, dry_run boolean default false)
returns table (consumer text, served_last timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if since is null or since > clock_timestamp() then
    raise exception 'since is %, which is not in the past', coalesce(since::text, 'null')
      using errcode = 'HK006', hint = 'Give a time in the past.';
  end if;
  for consumer, served_last in
    select c.name, hark.last_served(c.name) from hark.consumers c
    where hark.last_served(c.name) < since order by c.name
  loop
    if not dry_run then
      perform from hark.replays r where r.consumer = drop_inactive.consumer for update;
      perform from hark.consumers c where c.name = drop_inactive.consumer for no key update;
      perform from hark.partitions s where s.consumer = drop_inactive.consumer order by s.partition for update;
      -- A worker that joins refers to this row. So from here on either no worker joins, or the next
      -- line sees it.
      perform from hark.consumers c where c.name = drop_inactive.consumer for update;
      continue when coalesce(hark.last_served(consumer) >= since, true);
      perform hark.remove_consumer(consumer);
    end if;
    return next;
  end loop;
end
$$;
comment on function hark.drop_inactive(timestamptz, boolean) is
  'Removes the consumers that no worker has served since a time, and names them.';

-- The last id that was drawn until the end of each of the last minutes, and until now: at most `minutes` + 1 rows,
-- the oldest first. The difference of two is what was published between them, with what was rolled back. Some
-- ten looks at the primary key for each.
create or replace function hark.pace(minutes integer default 30) returns table (at timestamptz, drawn bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  now constant timestamptz := clock_timestamp();
  first_id constant bigint := coalesce((select l.id from hark.log l order by l.id limit 1), hark.last_drawn_id() + 1) - 1;
  high bigint := hark.last_drawn_id();
  low bigint;
  step bigint := 1000;
  times timestamptz[] := array[now];
  ids bigint[] := array[high];
begin
  -- From the newest on: a minute has about as many ids as the one after it, so some five looks lead to its beginning.
  for n in 1 .. least($1, 1440) loop
    at := date_trunc('minute', now) - make_interval(mins => n - 1);
    loop
      low := greatest(first_id, high - step);
      exit when low <= first_id;
      exit when (select l.created_at from hark.log l where l.id > low order by l.id limit 1) < at;
      high := low;
      step := step * 2;
    end loop;
    drawn := greatest(first_id, hark.id_between(at, low, high));
    step := greatest(1000, (ids[n] - drawn) * 5 / 4);
    high := drawn;
    times := times || at;
    ids := ids || drawn;
  end loop;
  return query select t.at, t.drawn from unnest(times, ids) with ordinality t (at, drawn, place) order by t.place desc;
end
$$;
comment on function hark.pace(integer) is 'The last id drawn until each of the last minutes.';
