-- Waiting notifications: to be retried, waiting for an earlier one of their key, or to be replayed.

-- The waiting notifications of partitions, by id, without their contents. `passed` says whether the
-- partition's position has passed the notification. If not, the worker will read it again and must
-- skip it then.
create or replace function hark.waiting_of(consumer text, held integer[], after_id bigint, max_rows integer)
returns table (
  id bigint, partition integer, key text, state text, attempts integer, due_ms double precision, passed boolean,
  hurried bigint
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select w.id, w.partition, hark.sendable(w.key), w.state, w.attempts,
    greatest(0, extract(epoch from w.due_at - clock_timestamp()))::double precision * 1000,
    coalesce((
      select hark.passed(l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id,
        i.rebased_through)
      from hark.log l, hark.places p, hark.install i
      where l.id = w.id and p.consumer = w.consumer and p.partition = w.partition
    ), true),
    w.hurried
  from hark.waiting w
  where w.consumer = $1 and w.partition = any ($2) and w.id > $3
  order by w.id
  limit $4
$$;

-- Notifications finished beyond the positions of partitions.
create or replace function hark.done_of(consumer text, held integer[]) returns table (id bigint, partition integer)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ select d.id, d.partition from hark.done d where d.consumer = $1 and d.partition = any ($2) $$;

-- Whether partitions still have an unread notification that a mark sees.
create or replace function hark.is_behind(consumer text, numbers integer[], target hark.marks) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
-- As in hark.unread_of.
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off set jit = off
as $$
  with place as materialized (
    select p.* from hark.places p where p.consumer = $1 and p.partition = any ($2)
  ),
  wanted as materialized (
    select distinct u.channel from hark.consumers c cross join lateral unnest(c.channels) u (channel) where c.name = $1
  )
  select exists (
    select from hark.consumers c
    cross join hark.install i
    join hark.log l on l.id > (select min(p.low) from place p) and l.id <= ($3).max_id
    join place p on p.partition = hark.partition_of(l.key, l.id, c.partitions)
    where c.name = $1 and l.channel in (select w.channel from wanted w)
      and (c.filter is null or hark.may_match(c.filter, l.key, l.payload, l.headers))
      and pg_visible_in_snapshot(l.xid, ($3).snapshot)
      and not hark.passed(l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id,
        i.rebased_through)
  )
$$;

-- The contents of waiting notifications, from the log or from their copies. Once the earlier rows take
-- max_bytes of text or a second, a row does not fit and has no payload. The first row always fits. The channel
-- is null if neither the log nor a copy has the notification. `problem` says why it cannot be read.
create or replace function hark.waiting_rows(consumer text, ids bigint[], max_bytes bigint)
returns table (
  id bigint, channel text, key text, payload text, headers text, created_at timestamptz, fits boolean, problem text
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  r record;
  c record;
  bytes bigint := 0;
  patience timestamptz := clock_timestamp() + interval '1 second';
begin
  for r in
    select w.id, n.channel, n.key, n.payload, n.headers, n.created_at
    from hark.waiting w
    left join lateral (
      select l.channel, l.key, l.payload, l.headers, l.created_at from hark.log l where l.id = w.id
      union all
      select w.channel, w.key, w.payload, w.headers, w.created_at where w.channel is not null
      limit 1
    ) n on true
    where w.consumer = $1 and w.id = any ($2)
    order by w.id
  loop
    id := r.id; channel := hark.sendable(r.channel); key := hark.sendable(r.key); created_at := r.created_at;
    payload := null; headers := null; problem := null;
    fits := fits is null or bytes < max_bytes and clock_timestamp() < patience;
    if fits and r.channel is not null then
      c := hark.contents(r.payload, r.headers);
      problem := case
        when c.problem is not null then c.problem
        when key is distinct from r.key or channel is distinct from r.channel
          then 'its key or channel cannot be converted to UTF-8'
        when r.payload is null then 'its payload could not be kept'
      end;
      if problem is null then
        payload := c.payload_text; headers := c.headers_text;
      end if;
      bytes := bytes + 100 + coalesce(octet_length(payload), 0) + coalesce(octet_length(headers), 0);
    end if;
    return next;
  end loop;
end
$$;

-- Moves a part of the oldest replay to hark.waiting. Takes notifications of its range that match the
-- consumer's channels and filter, if the positions had passed them when the replay was asked for. The other
-- notifications are delivered in their turn. Returns how many ids were looked at: `batch`, or fewer if a filter
-- has to unpack more than 8 MB as stored.
create or replace function hark.move_replays(consumer text, batch integer default 500) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  r hark.replays;
  c hark.consumers;
  through bigint;
  looked integer;
  complete_through bigint;
  then_partitions integer;
begin
  select * into r from hark.replays x where x.consumer = $1 order by x.number limit 1 for update skip locked;
  if not found then
    return 0;
  end if;
  -- Locked against a change of partitions.
  select * into c from hark.consumers k where k.name = $1 for no key update;
  select i.rebased_through into complete_through from hark.install i;
  select count(*) into then_partitions from hark.replay_positions p where p.replay = r.number;
  select max(l.id), count(*) into through, looked
  from (
    select l.id, sum(l.size) over (order by l.id rows between unbounded preceding and 1 preceding) as size_before
    from (
      select l.id, case when c.filter ?| '{payload,headers}'
        then pg_column_size(l.payload) + coalesce(pg_column_size(l.headers), 0) else 0 end as size
      from hark.log l where l.id >= r.next_id and l.id <= r.to_id order by l.id limit batch
    ) l
  ) l
  where coalesce(l.size_before, 0) < 8388608;
  insert into hark.waiting (consumer, id, partition, key, state)
  select $1, l.id, s.partition, l.key, 'replay'
  from hark.log l
  join hark.partitions s
    on s.consumer = $1 and s.partition = hark.partition_of(l.key, l.id, c.partitions)
  where l.id >= r.next_id and l.id <= through
    and l.channel in (select unnest(coalesce(r.channels, c.channels)))
    and (c.filter is null or hark.may_match(c.filter, l.key, l.payload, l.headers))
    and exists (
      select from hark.replay_positions p
      join hark.kept_marks m on m.number = p.seen
      left join hark.kept_marks t on t.number = p.target
      where p.replay = r.number and p.partition = hark.partition_of(l.key, l.id, then_partitions)
        and hark.passed(l.id, l.xid, p.after_id, p.seen = 0, (m.mark).snapshot, (t.mark).snapshot, p.last_id, complete_through)
    )
  on conflict do nothing;
  if looked = 0 or not exists (select from hark.log l where l.id > through and l.id <= r.to_id) then
    delete from hark.replays x where x.number = r.number;
  else
    update hark.replays x set next_id = through + 1 where x.number = r.number;
  end if;
  update hark.consumers k set changes = k.changes + 1 where k.name = $1;
  perform hark.request_look($1);
  return looked;
end
$$;
