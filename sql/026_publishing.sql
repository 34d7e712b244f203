-- Hark 026: publishing that wakes who sleeps (025), and costs little more than its row.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (26, 'publishing');

-- Constraints of a table are parsed, planned and prepared anew by each insert: 10 of its 17 µs here. So the functions
-- that insert into the log check what they are given, in their plans, and refuse it by the constraints' names. What
-- comes from hark.delayed has been checked there. Where somebody is publishing right now they stay, at that price: an
-- upgrade waits for no publisher, and none for it.
do $$
begin
  lock table hark.log in access exclusive mode nowait;
  alter table hark.log
    drop constraint channel_is_1_to_200_characters,
    drop constraint key_is_at_most_1000_characters,
    drop constraint headers_are_an_object;
exception when lock_not_available then
  raise notice 'the log is in use, so it keeps constraints that publishing need not pay for';
end
$$;

-- For triggers of watched tables the view checks it (016), in their plans too.
create or replace view hark.published as
select l.channel, l.key, l.payload, l.headers from hark.log l
where char_length(l.channel) between 1 and 200
  and (l.key is null or char_length(l.key) <= 1000)
  and (l.headers is null or jsonb_typeof(l.headers) = 'object')
with local check option;

-- Refuses those of these notifications that are not valid.
create function hark.refuse_invalid(ids bigint[]) returns void
language plpgsql volatile
as $$
declare
  broken pg_catalog.text;
begin
  select case
      when pg_catalog.char_length(l.channel) operator(pg_catalog.<) 1
        or pg_catalog.char_length(l.channel) operator(pg_catalog.>) 200 then 'channel_is_1_to_200_characters'
      when pg_catalog.char_length(l.key) operator(pg_catalog.>) 1000 then 'key_is_at_most_1000_characters'
      when pg_catalog.jsonb_typeof(l.headers) operator(pg_catalog.<>) 'object' then 'headers_are_an_object'
    end
  into broken
  from hark.log l where l.id operator(pg_catalog.=) any ($1)
  order by 1 limit 1;
  if broken is not null then
    raise exception 'new row for relation "log" violates check constraint "%"', broken
      using errcode = 'check_violation', schema = 'hark', table = 'log', constraint = broken;
  end if;
end
$$;

-- Headers given to a publishing function, over those of the transaction's context (the parameter hark.context, an
-- object as JSON text).
create function hark.in_context(headers jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('hark.context', true), '') = '' then
    return headers;
  end if;
  return coalesce(hark.with_context(null), '{}') || coalesce(headers, '{}');
end
$$;

-- The hot path has no SET clause and qualifies everything: see 001. What it asks, it asks in RETURNING, and what is
-- rare is behind one variable: a statement of its own costs more, and so does each expression that is prepared.
create or replace function hark.notify(
  channel text,
  payload jsonb default '{}',
  key text default null,
  headers jsonb default null
) returns bigint
language plpgsql volatile security definer
as $$
declare
  writer pg_catalog.xid8;
  drawn bigint;
  special boolean;
begin
  -- A statement of its own, before the insert: the number must be taken before the id is drawn.
  writer := pg_catalog.pg_current_xact_id();
  insert into hark.log (xid, channel, key, payload, headers, created_at)
  values (writer, $1, $3, coalesce($2, 'null'::pg_catalog.jsonb),
    case when pg_catalog.current_setting('hark.context', true) operator(pg_catalog.<>) ''
      then hark.in_context($4) else $4 end,
    pg_catalog.clock_timestamp())
  returning log.id,
    pg_catalog.char_length($1) operator(pg_catalog.<) 1
    or pg_catalog.char_length($1) operator(pg_catalog.>) 200
    or pg_catalog.char_length($3) operator(pg_catalog.>) 1000
    or pg_catalog.jsonb_typeof(log.headers) operator(pg_catalog.<>) 'object'
    or pg_catalog.pg_sequence_last_value('hark.gate'::pg_catalog.regclass)
      operator(pg_catalog.&) (1::pg_catalog.int8 operator(pg_catalog.<<)
        (pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.&) 63))
      operator(pg_catalog.<>) 0
  into drawn, special;
  if special then
    if pg_catalog.char_length($1) operator(pg_catalog.<) 1
      or pg_catalog.char_length($1) operator(pg_catalog.>) 200
      or pg_catalog.char_length($3) operator(pg_catalog.>) 1000
      or pg_catalog.jsonb_typeof($4) operator(pg_catalog.<>) 'object'
      or pg_catalog.current_setting('hark.context', true) operator(pg_catalog.<>) ''
    then
      perform hark.refuse_invalid(array[drawn]);
    end if;
    perform hark.wake_one($1);
  end if;
  return drawn;
end
$$;

-- Wakes who sleeps on a channel, for a transaction that has published on it in an earlier statement. By the clock of
-- the statement, not of the moment: a row that is renewed after the snapshot, so not seen as it is now, was valid
-- then. Two probes of the index: one for both costs twice as much where there are 100 rows. One channel at a time and
-- no FROM: what this costs is then the same for any, so that it is planned once and not by each call, which takes ten
-- times as long as to run it; and by the index, as the plan outlives the few rows it was made for.
create function hark.wake_one(channel text) returns void
language plpgsql volatile set enable_seqscan = off
as $$
begin
  perform pg_catalog.pg_notify('hark', $1)
  where (pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.<>) 'read committed'
      or exists (select from hark.sleepers s
        where s.channel operator(pg_catalog.=) ($1 collate pg_catalog."C")
          and s.until operator(pg_catalog.>) pg_catalog.statement_timestamp())
      or exists (select from hark.sleepers s
        where s.channel operator(pg_catalog.=) ''
          and s.until operator(pg_catalog.>) pg_catalog.statement_timestamp()))
    and coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    -- A full NOTIFY queue fails the commit, so near one the readers' polling has to do.
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5;
end
$$;

create or replace function hark.wake(channel text) returns void
language plpgsql volatile security definer
as $$
begin
  if pg_catalog.pg_sequence_last_value('hark.gate'::pg_catalog.regclass)
    operator(pg_catalog.&) (1::pg_catalog.int8 operator(pg_catalog.<<)
      (pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.&) 63))
    operator(pg_catalog.<>) 0
  then
    perform hark.wake_one($1);
  end if;
end
$$;
comment on function hark.wake(text) is
  'Wakes who waits for a channel on which an earlier statement of this transaction has published, as triggers do.';

create function hark.wake_all(channels text[]) returns void
language plpgsql volatile
as $$
declare
  awaited pg_catalog.text;
begin
  foreach awaited in array coalesce($1, '{}') loop
    perform hark.wake(awaited);
  end loop;
end
$$;

create or replace function hark.notify_many(notifications json) returns setof bigint
language plpgsql volatile security definer
as $$
declare
  writer pg_catalog.xid8;
  drawn bigint[];
  channels pg_catalog.text[];
  refused boolean;
begin
  writer := pg_catalog.pg_current_xact_id();
  with published as (
    insert into hark.log (xid, channel, key, payload, headers, created_at)
    select writer, n.channel, n.key, coalesce(n.payload, 'null'::pg_catalog.jsonb),
      case when pg_catalog.current_setting('hark.context', true) operator(pg_catalog.<>) ''
        then hark.in_context(n.headers) else n.headers end,
      pg_catalog.clock_timestamp()
    from rows from (
      pg_catalog.json_to_recordset($1) as (
        channel pg_catalog.text, key pg_catalog.text, payload pg_catalog.jsonb, headers pg_catalog.jsonb
      )
    ) with ordinality as n (channel, key, payload, headers, place)
    order by n.place
    returning log.id, log.channel,
      pg_catalog.char_length(log.channel) operator(pg_catalog.<) 1
      or pg_catalog.char_length(log.channel) operator(pg_catalog.>) 200
      or pg_catalog.char_length(log.key) operator(pg_catalog.>) 1000
      or pg_catalog.jsonb_typeof(log.headers) operator(pg_catalog.<>) 'object' as invalid
  )
  select pg_catalog.array_agg(p.id order by p.id), pg_catalog.array_agg(distinct p.channel), pg_catalog.bool_or(p.invalid)
  into drawn, channels, refused
  from published p;
  if refused then
    perform hark.refuse_invalid(drawn);
  end if;
  perform hark.wake_all(channels);
  return query select d.id from pg_catalog.unnest(drawn) as d (id);
end
$$;

-- As in 013, with the context that holds now.
create or replace function hark.notify_at(
  channel text, payload jsonb default '{}', key text default null, headers jsonb default null,
  deliver_at timestamptz default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  made bigint;
begin
  if $5 is null or not isfinite($5) then
    raise exception 'a notification cannot be delivered at %', coalesce($5::text, 'null')
      using errcode = 'HK006', hint = 'Give a time, or publish it at once with hark.notify.';
  end if;
  if $5 > clock_timestamp() + interval '3653 days' then
    raise exception 'deliver_at is %, which is more than 10 years ahead', $5
      using errcode = 'HK006', hint = 'Give a time within 10 years.';
  end if;
  insert into hark.delayed (channel, key, payload, headers, deliver_at)
  values ($1, $3, coalesce($2, 'null'), hark.in_context($4), $5)
  returning number into made;
  perform hark.nudge('');
  return made;
end
$$;

-- As in 013, but it wakes who sleeps.
create or replace function hark.deliver_due(batch integer default 1000)
returns table (moved integer, next_ms double precision)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
declare
  until_then timestamptz := clock_timestamp();
  in_other_hands constant double precision := 250;
  next_at timestamptz;
  held boolean := false;
  writer xid8;
  numbers bigint[];
  ids bigint[];
  channels text[];
begin
  if batch is null or batch < 1 then
    raise exception 'a batch of % cannot be delivered', coalesce(batch::text, 'null')
      using errcode = 'HK006', hint = 'Give how many notifications to move at most, at least 1.';
  end if;
  moved := 0;
  select d.deliver_at into next_at from hark.delayed d order by d.deliver_at, d.number limit 1;
  if next_at <= until_then then
    -- One at a time: two that skip each other's rows would give a later notification of a key the lower id. The
    -- lock is freed after the commit is visible, so who gets it next sees what was moved.
    if pg_try_advisory_xact_lock(hashtextextended('hark.deliver_due', 5237)) then
      -- A statement of its own, before ids are drawn (001).
      writer := pg_current_xact_id();
      with due as materialized (
        select d.number from hark.delayed d
        where d.deliver_at <= until_then
        order by d.deliver_at, d.number
        limit batch
        for update skip locked
      ),
      gone as materialized (
        delete from hark.delayed d using due u where d.number = u.number
        returning d.number, d.channel, d.key, d.payload, d.headers, d.deliver_at
      ),
      published as (
        -- The clock of now: ids and times run side by side in the log (hark.clean).
        insert into hark.log (xid, channel, key, payload, headers, created_at)
        select writer, g.channel, g.key, g.payload, g.headers, clock_timestamp()
        from gone g order by g.deliver_at, g.number
        returning log.id, log.channel
      )
      select count(*), array_agg(p.id order by p.id), array_agg(distinct p.channel),
        (select array_agg(g.number order by g.deliver_at, g.number) from gone g)
      into moved, ids, channels, numbers
      from published p;
      -- Who holds one of these rows has found it expired: nobody will be told of its id.
      with known as (
        select k.channel, k.dedupe_key, m.id
        from unnest(numbers, ids) m (number, id) join hark.dedupe k on k.delayed = m.number
        for update of k skip locked
      )
      update hark.dedupe k set id = n.id, delayed = null
      from known n where k.channel = n.channel and k.dedupe_key = n.dedupe_key;
      perform hark.wake_all(channels);
    end if;
    if moved = batch then
      select d.deliver_at into next_at from hark.delayed d order by d.deliver_at, d.number limit 1;
    else
      held := exists (select from hark.delayed d where d.deliver_at <= until_then);
      select d.deliver_at into next_at from hark.delayed d
      where d.deliver_at > until_then order by d.deliver_at, d.number limit 1;
    end if;
  end if;
  next_ms := least(
    extract(epoch from next_at - clock_timestamp())::double precision * 1000,
    case when held then in_other_hands end
  );
  return next;
end
$$;

revoke execute on all functions in schema hark from public;
