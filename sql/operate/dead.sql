-- Dead letters: list, retry, discard.

create or replace function hark.check_dead(consumer text, max_rows bigint, after_id bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if $1 is not null then
    perform hark.require_consumer($1);
  elsif after_id is not null then
    raise exception 'after_id % needs one consumer: dead letters of several consumers are not in the order of ids', after_id
      using errcode = 'HK006', hint = 'Name the consumer.';
  end if;
  if max_rows < 1 then
    raise exception 'max_rows is %', max_rows
      using errcode = 'HK006', hint = 'Give a limit of at least 1.';
  end if;
end
$$;

-- The dead letters that match. `error` is a part of the error's text; an empty `ids` matches none.
create or replace function hark.dead_matching(
  consumer text, ids bigint[], channel text, key text, error text, from_id bigint, to_id bigint,
  died_after timestamptz, died_before timestamptz, max_rows bigint, after_id bigint
) returns table (whose text, its_id bigint)
language sql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
  select d.consumer, d.id from hark.dead d
  where ($1 is null or d.consumer = $1) and ($2 is null or d.id = any ($2))
    and ($3 is null or d.channel = $3) and ($4 is null or d.key = $4)
    and ($5 is null or strpos(coalesce(d.error, ''), $5) > 0)
    and ($6 is null or d.id >= $6) and ($7 is null or d.id <= $7)
    and ($8 is null or d.died_at >= $8) and ($9 is null or d.died_at < $9)
    and ($11 is null or d.id > $11)
  order by d.consumer, d.id
  limit $10
$$;

-- Notifications given up, of one consumer or of all, by consumer and id. Payload and headers are null if they
-- cannot be read. To go on after the last one, give its id as after_id.
create or replace function hark.dead_letters(
  consumer text default null, channel text default null, key text default null, error text default null,
  from_id bigint default null, to_id bigint default null, died_after timestamptz default null,
  died_before timestamptz default null, max_rows bigint default 100, after_id bigint default null,
  ids bigint[] default null
) returns setof hark.dead
language plpgsql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.check_dead($1, $9, $10);
  return query
  select d.consumer, d.id, hark.sendable(d.channel), hark.sendable(d.key),
    case when c.problem is null then d.payload end, case when c.problem is null then d.headers end,
    d.created_at, d.attempts, d.error, d.died_at
  from hark.dead_matching($1, $11, $2, $3, $4, $5, $6, $7, $8, $9, $10) m
  join hark.dead d on d.consumer = m.whose and d.id = m.its_id
  cross join lateral hark.contents(d.payload, d.headers) c
  order by d.consumer, d.id;
end
$$;
comment on function hark.dead_letters is
  'Lists notifications that consumers have given up, with their last errors.';

-- Lets a consumer handle dead letters again, from their first attempt on. Takes all of them unless conditions
-- are given. Returns how many. A dead letter of which only the id is left stays.
create or replace function hark.retry_dead(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  moved bigint;
begin
  perform hark.check_dead($1, $10, null);
  c := hark.changed($1);
  with gone as (
    delete from hark.dead d
    using hark.dead_matching($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, null) m
    where d.consumer = m.whose and d.id = m.its_id
      and (d.channel is not null or exists (select from hark.log l where l.id = d.id))
    returning d.*
  ),
  again as (
    insert into hark.waiting (consumer, id, partition, key, state, last_error, failed_at,
      channel, payload, headers, created_at)
    select $1, g.id, hark.partition_of(n.key, g.id, c.partitions), n.key, 'retry', g.error, g.died_at,
      n.channel, n.payload, n.headers, n.created_at
    from gone g
    cross join lateral (
      select g.channel, g.key, g.payload, g.headers, g.created_at where g.channel is not null
      union all
      select l.channel, l.key, l.payload, l.headers, l.created_at from hark.log l
      where l.id = g.id and g.channel is null
    ) n
    -- It already waits, for a replay.
    on conflict do nothing
  )
  select count(*) into moved from gone;
  return moved;
end
$$;
comment on function hark.retry_dead is 'Lets a consumer handle its dead letters again; returns how many.';

-- Removes dead letters of a consumer for good: all of them unless conditions are given. Returns how many.
create or replace function hark.discard_dead(
  consumer text, ids bigint[] default null, channel text default null, key text default null,
  error text default null, from_id bigint default null, to_id bigint default null,
  died_after timestamptz default null, died_before timestamptz default null, max_rows bigint default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  removed bigint;
begin
  perform hark.check_dead($1, $10, null);
  delete from hark.dead d
  using hark.dead_matching($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, null) m
  where d.consumer = m.whose and d.id = m.its_id;
  get diagnostics removed = row_count;
  return removed;
end
$$;
comment on function hark.discard_dead is 'Removes dead letters of a consumer for good; returns how many.';
