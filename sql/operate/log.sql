-- Looking at the log: pages of notifications, one notification, and where it stands for each consumer. Nothing
-- here is without bounds, as the log has no index but the one of its ids.

-- The largest id such that all notifications up to it were published before a time, if it lies between two ids. Ids
-- and times rise together, except for short moments and for changes of the clock. Half of the ids go with each look at
-- the primary key.
create or replace function hark.id_between("time" timestamptz, low bigint, high bigint) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  middle bigint;
  found_id bigint;
  published timestamptz;
begin
  while low < high loop
    middle := low + (high - low) / 2;
    select l.id, l.created_at into found_id, published from hark.log l where l.id > middle order by l.id limit 1;
    if found_id is null or published >= $1 then
      high := middle;
    else
      low := found_id;
    end if;
  end loop;
  return low;
end
$$;

-- The same, of the whole log: some 30 looks, whatever its size.
create or replace function hark.id_before("time" timestamptz) returns bigint
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select hark.id_between($1, 0, hark.last_drawn_id()) $$;

-- The ids from the first to the last that can be meant. Times are widened by ten seconds, as ids and times do not
-- rise together at every moment. So a caller also compares the times of the rows.
create or replace function hark.id_range(
  from_id bigint, to_id bigint, from_time timestamptz, to_time timestamptz, out first_id bigint, out last_id bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if from_id < 0 or to_id < 0 then
    raise exception 'the range from % to % is not one of ids', coalesce(from_id::text, 'the first'), coalesce(to_id::text, 'the last')
      using errcode = 'HK006', hint = 'Give ids of at least 0.';
  end if;
  first_id := coalesce(from_id, 0);
  last_id := least(to_id, hark.last_drawn_id());
  if from_time is not null then
    first_id := greatest(first_id, hark.id_before(from_time - interval '10 seconds') + 1);
  end if;
  if to_time is not null then
    last_id := least(last_id, hark.id_before(to_time + interval '10 seconds'));
  end if;
end
$$;

-- Whether a payload contains a value, and its text contains a text. What cannot be read does neither.
create or replace function hark.has_content(payload jsonb, contains jsonb, search text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return ($2 is null or $1 @> $2) and ($3 is null or strpos($1::text, $3) > 0);
exception when others then
  if not hark.is_of_a_value(sqlstate) then
    raise;
  end if;
  return false;
end
$$;

-- What reads the log in this file, dead letters, delayed notifications and schedules comes in three functions. One
-- is in full, for operators; one is an outline without payloads and headers, for roles that may only observe; and one
-- chooses between the two. It runs with the caller's rights: inside a SECURITY DEFINER function the role of the
-- caller is not known.

-- One page of the log: the notifications that match every condition, by id. `search` is a part of the payload's
-- text. The page ends at max_rows notifications, after max_scanned looked at, after max_ms, or once it has 16 MB
-- of text. A last row, whose id is null, says how far that was (looked_through), how many notifications were looked at,
-- and whether the range goes on from there. For the next page give the id behind it as to_id or from_id. Payload
-- and headers of a notification that cannot be read are null, and `problem` says why.
create or replace function hark.notifications_in_full(
  channels text[] default null, key text default null, contains jsonb default null, search text default null,
  from_id bigint default null, to_id bigint default null, from_time timestamptz default null,
  to_time timestamptz default null, newest_first boolean default true, max_rows integer default 100,
  max_scanned integer default 100000, max_ms integer default 1000
) returns setof hark.found
language plpgsql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
-- Ranges of the primary key, whatever statistics say. Truncating a segment must not keep anyone waiting for long.
set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '2s'
as $$
declare
  until_then constant timestamptz := clock_timestamp() + make_interval(secs => $12 / 1000.0);
  unpacks constant boolean := $3 is not null or $4 is not null;
  first_id bigint;
  last_id bigint;
  low bigint;
  high bigint;
  seen bigint;
  scanned bigint := 0;
  step integer;
  found_ids bigint[];
  given_rows integer := 0;
  given_bytes bigint := 0;
  through bigint;
  r record;
  c record;
begin
  if $10 is null or $10 < 1 or $11 is null or $11 < 1 or $12 is null or $12 < 1 then
    raise exception 'max_rows is %, max_scanned is %, max_ms is %', $10, $11, $12
      using errcode = 'HK006', hint = 'Give limits of at least 1.';
  end if;
  select i.first_id, i.last_id into first_id, last_id from hark.id_range($5, $6, $7, $8) i;
  through := case when $9 then last_id + 1 else first_id - 1 end;
  <<steps>>
  while first_id <= last_id and scanned < $11 and given_rows < $10 and (scanned = 0 or clock_timestamp() < until_then) loop
    step := least(2000, $11 - scanned);
    -- A step also ends with the notification that passes 4 MB as stored, if it has to unpack them.
    if $9 then
      select min(s.id), max(s.id), count(*) into low, high, seen
      from (
        select s.id, sum(s.size) over (order by s.id desc rows between unbounded preceding and 1 preceding) as before
        from (
          select l.id, case when unpacks then pg_column_size(l.payload) else 0 end as size
          from hark.log l where l.id >= first_id and l.id <= last_id order by l.id desc limit step
        ) s
      ) s where coalesce(s.before, 0) < 4194304;
    else
      select min(s.id), max(s.id), count(*) into low, high, seen
      from (
        select s.id, sum(s.size) over (order by s.id rows between unbounded preceding and 1 preceding) as before
        from (
          select l.id, case when unpacks then pg_column_size(l.payload) else 0 end as size
          from hark.log l where l.id >= first_id and l.id <= last_id order by l.id limit step
        ) s
      ) s where coalesce(s.before, 0) < 4194304;
    end if;
    if seen = 0 then
      first_id := last_id + 1;
      exit;
    end if;
    scanned := scanned + seen;
    begin
      select array_agg(f.id order by f.place) into found_ids
      from (
        select l.id, case when $9 then -l.id else l.id end as place from hark.log l
        where l.id >= low and l.id <= high
          and ($1 is null or l.channel = any ($1)) and ($2 is null or l.key = $2)
          and ($7 is null or l.created_at >= $7) and ($8 is null or l.created_at <= $8)
          and ($3 is null or l.payload @> $3) and ($4 is null or strpos(l.payload::text, $4) > 0)
        order by 2 limit $10 - given_rows
      ) f;
    exception when others then
      if not hark.is_of_a_value(sqlstate) then
        raise;
      end if;
      -- One of them cannot be read: look at each by itself.
      select array_agg(f.id order by f.place) into found_ids
      from (
        select l.id, case when $9 then -l.id else l.id end as place from hark.log l
        where l.id >= low and l.id <= high
          and ($1 is null or l.channel = any ($1)) and ($2 is null or l.key = $2)
          and ($7 is null or l.created_at >= $7) and ($8 is null or l.created_at <= $8)
          and hark.has_content(l.payload, $3, $4)
        order by 2 limit $10 - given_rows
      ) f;
    end;
    through := case when $9 then low else high end;
    for r in
      select l.id, l.channel, l.key, l.payload, l.headers, l.created_at,
        pg_column_size(l.payload)::bigint + coalesce(pg_column_size(l.headers), 0) as bytes
      from unnest(found_ids) with ordinality f (id, place)
      cross join lateral (select g.* from hark.log g where g.id = f.id offset 0) l order by f.place
    loop
      c := hark.contents(r.payload, r.headers);
      return next row(r.id, hark.sendable(r.channel), hark.sendable(r.key), c.payload_text, c.headers_text, r.created_at,
        r.bytes, c.problem, null, null, null)::hark.found;
      given_rows := given_rows + 1;
      given_bytes := given_bytes + coalesce(octet_length(c.payload_text), 0) + coalesce(octet_length(c.headers_text), 0);
      if given_rows >= $10 or given_bytes >= 16777216 then
        through := r.id;
        given_rows := $10; -- the page is full
        exit;
      end if;
    end loop;
    if $9 then
      last_id := through - 1;
    else
      first_id := through + 1;
    end if;
  end loop;
  return next row(null, null, null, null, null, null, null, null, through, scanned,
    first_id <= last_id and exists (select from hark.log l where l.id >= first_id and l.id <= last_id))::hark.found;
end
$$;

create or replace function hark.notifications_in_outline(
  channels text[] default null, key text default null, contains jsonb default null, search text default null,
  from_id bigint default null, to_id bigint default null, from_time timestamptz default null,
  to_time timestamptz default null, newest_first boolean default true, max_rows integer default 100,
  max_scanned integer default 100000, max_ms integer default 1000
) returns setof hark.found
language plpgsql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
begin
  if $3 is not null or $4 is not null then
    raise exception 'this role may only observe, and so not choose notifications by their payloads'
      using errcode = '42501', hint = 'Leave out contains and search. Or, as the schema''s owner: hark.grant_operate.';
  end if;
  return query
  select n.id, n.channel, n.key, null::text, null::text, n.created_at, n.bytes, case when n.id is not null then hark.hidden() end,
    n.looked_through, n.looked, n.more
  from hark.notifications_in_full($1, $2, null, null, $5, $6, $7, $8, $9, $10, $11, $12) n;
end
$$;

create or replace function hark.notifications(
  channels text[] default null, key text default null, contains jsonb default null, search text default null,
  from_id bigint default null, to_id bigint default null, from_time timestamptz default null,
  to_time timestamptz default null, newest_first boolean default true, max_rows integer default 100,
  max_scanned integer default 100000, max_ms integer default 1000
) returns setof hark.found
language plpgsql volatile rows 100 set search_path = pg_catalog, pg_temp
as $$
begin
  if hark.sees_contents() then
    return query select * from hark.notifications_in_full($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
  else
    return query select * from hark.notifications_in_outline($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
  end if;
end
$$;
comment on function hark.notifications is
  'One page of the log, filtered; its last row says how far it looked. Without contents for roles that may only observe.';

-- Whether the caller may see payloads and headers.
create or replace function hark.sees_contents() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select has_function_privilege('hark.notification_in_full(bigint)', 'execute') $$;

-- Why an outline has none.
create or replace function hark.hidden() returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select 'its contents are hidden from this role, which may only observe' $$;

-- One notification: from the log, or as a dead letter or a waiting notification has kept it ("copy"). If only its
-- id is left there, the channel is null. No row if it is nowhere.
create or replace function hark.notification_in_full(id bigint) returns table (
  channel text, key text, payload text, headers text, created_at timestamptz, bytes bigint, problem text, place text
)
language sql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
-- Each row by its primary key, whatever statistics say.
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select hark.sendable(n.channel), hark.sendable(n.key), c.payload_text, c.headers_text, n.created_at,
    pg_column_size(n.payload) + coalesce(pg_column_size(n.headers), 0)::bigint, c.problem, n.place
  from (
    select n.* from (
      select 1 as rank, 'log' as place, l.channel, l.key, l.payload, l.headers, l.created_at from hark.log l where l.id = $1
      union all
      select case when w.channel is null then 5 else 2 end, 'copy', w.channel, w.key, w.payload, w.headers, w.created_at
      from hark.waiting w where w.id = $1
      union all
      select case when d.channel is null then 4 else 3 end, 'copy', d.channel, d.key, d.payload, d.headers, d.created_at
      from hark.consumers k join hark.dead d on d.consumer = k.name and d.id = $1
    ) n order by n.rank limit 1
  ) n
  cross join lateral hark.contents(n.payload, n.headers) c
$$;

create or replace function hark.notification_in_outline(id bigint) returns table (
  channel text, key text, payload text, headers text, created_at timestamptz, bytes bigint, problem text, place text
)
language sql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
  select n.channel, n.key, null::text, null::text, n.created_at, n.bytes, hark.hidden(), n.place
  from hark.notification_in_full($1) n
$$;

create or replace function hark.notification(id bigint) returns table (
  channel text, key text, payload text, headers text, created_at timestamptz, bytes bigint, problem text, place text
)
language plpgsql volatile rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  if hark.sees_contents() then
    return query select * from hark.notification_in_full($1);
  else
    return query select * from hark.notification_in_outline($1);
  end if;
end
$$;
comment on function hark.notification(bigint) is 'One notification, from the log or from what consumers have kept of it.';

-- Where a notification stands for each consumer: waiting, dead, handled, unread, filtered (it does not match the
-- consumer's filter), foreign (not of its channels) or absent (no longer in the log). What a position had passed
-- when the consumer was registered counts as handled.
create or replace function hark.verdicts(id bigint) returns table (
  consumer text, verdict text, state text, attempts integer, next_attempt_at timestamptz, error text, failed_at timestamptz,
  has_worker boolean, paused boolean
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
-- Each row by its primary key, whatever statistics say.
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select c.name,
    case
      when w.id is not null then 'waiting'
      when d.id is not null then 'dead'
      when l.id is null then 'absent'
      when l.channel <> all (c.channels) then 'foreign'
      when c.filter is not null and not hark.may_match(c.filter, l.key, l.payload, l.headers) then 'filtered'
      when hark.passed(
          l.id, l.xid, s.after_id, s.seen_nothing, s.seen_snapshot, s.target_snapshot, s.last_id, i.rebased_through)
        or exists (select from hark.done f where f.consumer = c.name and f.partition = s.partition and f.id = l.id)
        then 'handled'
      else 'unread'
    end,
    w.state, coalesce(w.attempts, d.attempts, 0), case when w.state <> 'behind' then w.due_at end,
    coalesce(w.last_error, d.error), coalesce(w.failed_at, d.died_at),
    exists (select from hark.crew k where k.consumer = c.name and hark.is_alive(k.lease_until, k.session)),
    c.paused_at is not null
  from hark.consumers c
  cross join hark.install i
  left join hark.log l on l.id = $1
  left join hark.waiting w on w.consumer = c.name and w.id = $1
  left join hark.dead d on d.consumer = c.name and d.id = $1
  left join hark.places s on s.consumer = c.name and s.partition = hark.partition_of(l.key, l.id, c.partitions)
  order by c.name
$$;
comment on function hark.verdicts(bigint) is 'Where a notification stands for each consumer.';

-- Delayed notifications, the next one due first. To go on after the last one, give its number as after_number. If that one
-- was delivered or cancelled since, the call is refused.
create or replace function hark.delayed_in_full(
  channel text default null, key text default null, max_rows integer default 100, after_number bigint default null
) returns setof hark.not_due
language plpgsql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  after_at timestamptz := '-infinity';
begin
  if $4 is not null then
    select d.deliver_at into after_at from hark.delayed d where d.number = $4;
    if not found then
      raise exception 'notification % is not delayed any more, so its place in the list is not known', $4
        using errcode = 'HK006', hint = 'Begin again without it.';
    end if;
  end if;
  return query
  select d.number, hark.sendable(d.channel), hark.sendable(d.key), c.payload_text, c.headers_text, d.deliver_at,
    d.created_at, d.owner, c.problem
  from (
    select d.* from hark.delayed d
    where ($1 is null or d.channel = $1) and ($2 is null or d.key = $2)
      and (d.deliver_at, d.number) > (after_at, coalesce($4, 0))
    order by d.deliver_at, d.number limit least($3, 10000)
  ) d
  cross join lateral hark.contents(d.payload, d.headers) c
  order by d.deliver_at, d.number;
end
$$;

create or replace function hark.delayed_in_outline(
  channel text default null, key text default null, max_rows integer default 100, after_number bigint default null
) returns setof hark.not_due
language sql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
  select d.number, d.channel, d.key, null::text, null::text, d.deliver_at, d.created_at, d.owner, hark.hidden()
  from hark.delayed_in_full($1, $2, $3, $4) d
$$;

create or replace function hark.delayed_notifications(
  channel text default null, key text default null, max_rows integer default 100, after_number bigint default null
) returns setof hark.not_due
language plpgsql volatile rows 100 set search_path = pg_catalog, pg_temp
as $$
begin
  if hark.sees_contents() then
    return query select * from hark.delayed_in_full($1, $2, $3, $4);
  else
    return query select * from hark.delayed_in_outline($1, $2, $3, $4);
  end if;
end
$$;
comment on function hark.delayed_notifications is 'Notifications that are not due yet, the next one due first.';

-- What was published on each channel in a range of ids or times: the newest max_scanned notifications of it. The
-- last row, whose channel is null, says how far it looked, as that of hark.notifications does. `consumers` is how
-- many consumers read the channel now.
create or replace function hark.log_channels(
  from_id bigint default null, to_id bigint default null, from_time timestamptz default null,
  to_time timestamptz default null, max_scanned integer default 1000000
) returns table (
  channel text, notifications bigint, bytes bigint, first_at timestamptz, last_at timestamptz, consumers integer,
  looked_through bigint, looked bigint, more boolean
)
language plpgsql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '2s'
as $$
#variable_conflict use_column
declare
  first_id bigint;
  last_id bigint;
  low bigint;
begin
  if $5 is null or $5 < 1 then
    raise exception 'max_scanned is %', $5 using errcode = 'HK006', hint = 'Give a number of at least 1.';
  end if;
  select i.first_id, i.last_id into first_id, last_id from hark.id_range($1, $2, $3, $4) i;
  select min(s.id), count(*) into low, looked
  from (
    select l.id from hark.log l where l.id >= first_id and l.id <= last_id order by l.id desc limit $5
  ) s;
  return query
  select hark.sendable(n.channel), n.notifications, n.bytes, n.first_at, n.last_at,
    (select count(*)::integer from hark.consumers c where n.channel = any (c.channels)), null::bigint, null::bigint, null::boolean
  from (
    select l.channel, count(*) as notifications,
      sum(pg_column_size(l.payload) + coalesce(pg_column_size(l.headers), 0))::bigint as bytes,
      min(l.created_at) as first_at, max(l.created_at) as last_at
    from hark.log l
    where l.id >= low and l.id <= last_id
      and ($3 is null or l.created_at >= $3) and ($4 is null or l.created_at <= $4)
    group by l.channel order by 2 desc, l.channel collate "C" limit 10000
  ) n
  order by 2 desc, n.channel collate "C";
  looked_through := coalesce(low, first_id);
  more := exists (select from hark.log l where l.id >= first_id and l.id < low);
  return next;
end
$$;
comment on function hark.log_channels is 'How much was published on each channel, and how many consumers read it.';
