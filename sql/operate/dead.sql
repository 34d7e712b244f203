-- Dead letters: which there are. To retry or discard them: retry.sql.

-- An empty `error` would match every dead letter.
create or replace function hark.check_dead(consumer text, max_rows bigint, after_id bigint, error text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if $1 is not null then
    perform hark.require_consumer($1);
  elsif after_id is not null then
    raise exception 'after_id % needs one consumer: dead letters of several consumers are not in the order of ids', after_id
      using errcode = 'HK006', hint = 'Name the consumer.';
  end if;
  if error = '' then
    raise exception 'error is empty'
      using errcode = 'HK006', hint = 'Give a part of the error''s text, or null for every error.';
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

-- How many dead letters match, counted to max_rows at most.
create or replace function hark.dead_count(
  consumer text default null, channel text default null, key text default null, error text default null,
  from_id bigint default null, to_id bigint default null, died_after timestamptz default null,
  died_before timestamptz default null, max_rows bigint default 10000, ids bigint[] default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.check_dead($1, $9, null, $4);
  return (select count(*) from hark.dead_matching($1, $10, $2, $3, $4, $5, $6, $7, $8, $9, null));
end
$$;
comment on function hark.dead_count is 'How many dead letters match.';

-- Notifications given up, of one consumer or of all, by consumer and id. Payload and headers are null if they
-- cannot be read, and without `contents`: a list of large ones takes long to read. To go on after the last one, give its id as after_id.
create or replace function hark.dead_in_full(
  consumer text default null, channel text default null, key text default null, error text default null,
  from_id bigint default null, to_id bigint default null, died_after timestamptz default null,
  died_before timestamptz default null, max_rows bigint default 100, after_id bigint default null,
  ids bigint[] default null, contents boolean default true
) returns setof hark.dead
language plpgsql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.check_dead($1, $9, $10, $4);
  return query
  select d.consumer, d.id, hark.sendable(d.channel), hark.sendable(d.key),
    case when c.readable then d.payload end, case when c.readable then d.headers end,
    d.created_at, d.attempts, d.error, d.died_at
  from hark.dead_matching($1, $11, $2, $3, $4, $5, $6, $7, $8, $9, $10) m
  join hark.dead d on d.consumer = m.whose and d.id = m.its_id
  cross join lateral (
    select case when $12 then (hark.contents(d.payload, d.headers)).problem is null end as readable offset 0
  ) c
  order by d.consumer, d.id;
end
$$;

create or replace function hark.dead_in_outline(
  consumer text default null, channel text default null, key text default null, error text default null,
  from_id bigint default null, to_id bigint default null, died_after timestamptz default null,
  died_before timestamptz default null, max_rows bigint default 100, after_id bigint default null,
  ids bigint[] default null, contents boolean default true
) returns setof hark.dead
language sql volatile security definer rows 100 set search_path = pg_catalog, pg_temp
as $$ select * from hark.dead_in_full($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, false) $$;

create or replace function hark.dead_letters(
  consumer text default null, channel text default null, key text default null, error text default null,
  from_id bigint default null, to_id bigint default null, died_after timestamptz default null,
  died_before timestamptz default null, max_rows bigint default 100, after_id bigint default null,
  ids bigint[] default null, contents boolean default true
) returns setof hark.dead
language plpgsql volatile rows 100 set search_path = pg_catalog, pg_temp
as $$
begin
  if hark.sees_contents() then
    return query select * from hark.dead_in_full($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
  else
    return query select * from hark.dead_in_outline($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
  end if;
end
$$;
comment on function hark.dead_letters is
  'Lists notifications that consumers have given up, with their last errors.';
