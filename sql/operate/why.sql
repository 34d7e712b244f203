-- Why a notification waits, what an act would do, and what consumers give up for. Nothing here is without bounds.

-- For each consumer that has not finished with a notification: its partition and the worker that owns it, and the
-- earlier notification of its key that it waits for, if there is one.
create or replace function hark.waits_behind(id bigint) returns table (
  consumer text, partition integer, worker text, alive boolean, lease_until timestamptz,
  holder_id bigint, holder_state text, holder_attempts integer, holder_due_at timestamptz, holder_error text
)
language sql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select c.name, s.partition, coalesce(k.name, left(s.owner::text, 8)), coalesce(hark.is_alive(k.lease_until, k.session), false),
    k.lease_until, h.id, h.state, h.attempts, h.due_at, h.last_error
  from hark.consumers c
  cross join hark.install i
  left join hark.log l on l.id = $1
  left join hark.waiting w on w.consumer = c.name and w.id = $1
  join hark.partitions s on s.consumer = c.name
    and s.partition = coalesce(w.partition, hark.partition_of(l.key, l.id, c.partitions))
  join hark.places p on p.consumer = s.consumer and p.partition = s.partition
  left join hark.crew k on k.consumer = c.name and k.owner = s.owner
  left join lateral (
    select x.* from hark.waiting x
    where x.consumer = c.name and x.partition = s.partition and x.id < $1 and x.state <> 'behind'
      and x.key = coalesce(w.key, l.key)
    order by x.id limit 1
  ) h on true
  where w.id is not null
    or l.channel = any (c.channels) and not hark.passed(
      l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id, i.rebased_through)
  order by c.name
$$;
comment on function hark.waits_behind(bigint) is
  'For each consumer that has not finished with a notification, the worker and the notification that it waits for.';

-- What a consumer would handle again (passed), or never (unread), in a range of ids or times: of the newest
-- max_scanned notifications in it. `waiting` is how many notifications of the consumer wait there, at most 10,000.
create or replace function hark.preview(
  consumer text, from_id bigint default null, to_id bigint default null, from_time timestamptz default null,
  to_time timestamptz default null, channels text[] default null, max_scanned integer default 50000
) returns table (first_id bigint, last_id bigint, passed bigint, unread bigint, waiting bigint, capped boolean)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
  c hark.consumers;
  scanned bigint;
begin
  perform hark.require_consumer($1);
  select * into c from hark.consumers k where k.name = $1;
  first_id := coalesce($2, case when $4 is not null then hark.id_before($4) + 1 end, 0);
  last_id := least($3, case when $5 is not null then hark.id_before($5) end, hark.last_drawn_id());
  with place as materialized (
    select p.partition, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id
    from hark.places p where p.consumer = $1
  ),
  chosen as materialized (
    select l.id, l.xid, l.channel, l.key, l.payload, l.headers from hark.log l
    where l.id >= first_id and l.id <= last_id order by l.id desc limit $7
  ),
  those as (
    select hark.passed(
      l.id, l.xid, p.after_id, p.seen_nothing, p.seen_snapshot, p.target_snapshot, p.last_id, i.rebased_through) as is_passed
    from chosen l
    cross join hark.install i
    join place p on p.partition = hark.partition_of(l.key, l.id, c.partitions)
    where l.channel = any (c.channels) and ($6 is null or l.channel = any ($6))
      and (c.filter is null or hark.may_match(c.filter, l.key, l.payload, l.headers))
  )
  select count(*) filter (where t.is_passed), count(*) filter (where not t.is_passed), (select count(*) from chosen)
  into passed, unread, scanned from those t;
  select count(*) into waiting from (
    select from hark.waiting w where w.consumer = $1 and w.id >= first_id and w.id <= last_id limit 10000
  ) w;
  capped := scanned >= $7;
  return next;
end
$$;
comment on function hark.preview is 'How much a seek or a replay would deliver again, or skip.';

-- Dead letters by consumer and by the beginning of their error, those that are most first: at most 100 groups of
-- max_scanned dead letters. The beginning ends before the first digit or quotation mark, as what follows is most
-- often a value. A bracket and a word before that, as in "(notification 42)", are left out too. The beginning is
-- a part of each error of its group, so that hark.retry and hark.discard take it.
create or replace function hark.dead_groups(consumer text default null, max_scanned integer default 50000)
returns table (whose text, beginning text, letters bigint, first_at timestamptz, last_at timestamptz, example bigint, capped boolean)
language sql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
  -- Counted by as little as can be found in one step, so that the rest is done once for each group. What is too
  -- short to say anything is counted by its line.
  with counted as materialized (
    select s.consumer, s.head, case when length(rtrim(split_part(s.head, '(', 1))) < 8 then split_part(s.line, E'\n', 1) end as line,
      count(*) as letters, min(s.died_at) as first_at, max(s.died_at) as last_at, max(s.id) as example
    from (
      select d.consumer, d.id, d.died_at, left(d.error, 400) as line,
        substring(left(d.error, 400) from E'^[^0-9"''`#\n]*') as head
      from hark.dead d where $1 is null or d.consumer = $1 limit $2
    ) s
    group by 1, 2, 3
  ),
  named as (
    select n.*, nullif(left(case when length(h.head) >= 8 then h.head else n.line end, 200), '') as beginning
    from counted n cross join lateral (select rtrim(regexp_replace(n.head, E'\\(\\w*\\s*$', '')) as head) h
  )
  select g.consumer, g.beginning, sum(g.letters)::bigint, min(g.first_at), max(g.last_at), max(g.example),
    (select sum(n.letters) from counted n) >= $2
  from named g group by g.consumer, g.beginning order by 3 desc, 1, 2 limit 100
$$;
comment on function hark.dead_groups is 'Dead letters by consumer and by the beginning of their error.';
