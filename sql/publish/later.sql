-- Publishing later, and publishing once.

-- Stores a notification in this transaction, with the current context, to be delivered at a time by the
-- server's clock. Returns its number in hark.delayed, which is not an id of the log. A time that has passed
-- is due at once.
create or replace function hark.notify_at(
  channel text, payload jsonb default '{}', key text default null, headers jsonb default null,
  deliver_at timestamptz default null
) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  made bigint;
  -- As hark.acting_role gives it. Here and below, a call of a function would cost as much as the insert.
  own constant text := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  if (isfinite($5) and $5 <= clock_timestamp() + interval '3653 days') is not true then
    perform hark.refuse_time($5);
  end if;
  if $1 is null or $1 = '' or char_length($1) > 200 or char_length($3) > 1000 or $4 is not null and jsonb_typeof($4) <> 'object' then
    perform hark.refuse($1, $3, $4);
  end if;
  if current_setting('hark.context', true) <> '' then
    $4 := hark.in_context($4);
  end if;
  insert into hark.delayed (channel, key, payload, headers, deliver_at, owner, owner_role)
  values ($1, $3, coalesce($2, 'null'), $4, $5, own, to_regrole(quote_ident(own)))
  returning number into made;
  -- As hark.request_look does.
  if coalesce(current_setting('hark.wake', true), '') <> 'off' and pg_notification_queue_usage() < 0.5 then
    perform pg_notify('hark_control', '');
  end if;
  return made;
end
$$;
comment on function hark.notify_at(text, jsonb, text, jsonb, timestamptz) is
  'Stores a notification to be delivered at a time; returns its number, for hark.cancel_delayed.';

-- Refuses a time of delivery that is missing, infinite or too far ahead. `place` is as hark.refuse has it.
create or replace function hark.refuse_time(deliver_at timestamptz, place bigint default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  shown_place text := coalesce('notification ' || $2 || ' of the array: ', '');
begin
  if isfinite($1) then
    raise exception '%deliver_at is %, which is more than 10 years ahead', shown_place, $1
      using errcode = 'HK006', hint = 'Give a time within 10 years.';
  end if;
  raise exception '%a notification cannot be delivered at %', shown_place, coalesce($1::text, 'null')
    using errcode = 'HK006', hint = 'Give a time, or publish it at once with hark.notify.';
end
$$;

-- The role that a session acts as: the role of SET ROLE, else the role of its login. A function that is
-- SECURITY DEFINER cannot learn the current_user of its caller. A pooler's clients that share a login and use
-- SET ROLE are told apart.
create or replace function hark.acting_role() returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$ select coalesce(nullif(current_setting('role'), 'none'), session_user) $$;

-- The role that stored something, by the number and the name that it had. Null if it is gone. Until hark.rebase has been
-- called in a copy on another server, only the name counts.
create or replace function hark.owner_of(owner text, owner_role oid) returns oid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select r.oid from pg_roles r
  where case when $2 is not null and exists (
      select from hark.install i join pg_control_system() s on s.system_identifier = i.system_identifier
    ) then r.oid = $2 else r.rolname = $1 end
$$;

-- Whether the session's role has the rights of another role, or those of an operator. null: only the latter.
create or replace function hark.has_rights_of(owner oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pg_roles c
    where c.rolname = hark.acting_role() and (
      has_function_privilege(c.oid, 'hark.remove_any_schedule(text)', 'execute')
      or exists (select from pg_roles o where o.oid = $1 and pg_has_role(c.oid, o.oid, 'usage'))
    )
  )
$$;

-- Refuses to change what another role has stored. `what` says what that role did, and `how` begins the hint.
create or replace function hark.require_rights_of(owner text, owner_role oid, what text, how text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  whose constant oid := hark.owner_of($1, $2);
  known constant text := coalesce((select r.rolname from pg_roles r where r.oid = whose), $1);
begin
  if not hark.has_rights_of(whose) then
    raise exception 'role "%" %, and role "%" does not have its rights', known, what, hark.acting_role()
      using errcode = 'insufficient_privilege', hint = case
        when whose is null then format('That role is gone. %s an operator (hark.grant_operate).', how)
        else format('%s %s, or as an operator (hark.grant_operate).', how, quote_ident(known)) end;
  end if;
end
$$;

-- Cancels a delayed notification. Returns false if it has been delivered or cancelled already. Waits while
-- another session delivers it. Frees its dedupe key. Numbers can be guessed, so a role cancels only what it
-- has delayed itself, or what a role has delayed whose rights it has. An operator cancels any.
--
-- Runs with the caller's rights, so that a SECURITY DEFINER function of an operator can cancel for others.
create or replace function hark.cancel_delayed(number bigint) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if has_function_privilege('hark.cancel_any_delayed(bigint)', 'execute') then
    return hark.cancel_any_delayed($1);
  end if;
  return hark.cancel_own_delayed($1);
end
$$;
comment on function hark.cancel_delayed(bigint) is
  'Cancels a delayed notification by its number; false if it is no longer waiting to be delivered. For the '
  'role that delayed it, and for operators.';

-- Refuses before it locks the row: a lock would hold up the delivery.
create or replace function hark.cancel_own_delayed(number bigint) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  d hark.delayed;
begin
  select x.* into d from hark.delayed x where x.number = $1;
  if not found then
    return false;
  end if;
  perform hark.require_rights_of(d.owner, d.owner_role, format('delayed notification %s', $1), 'Cancel it as');
  return hark.cancel_any_delayed($1);
end
$$;

create or replace function hark.cancel_any_delayed(number bigint) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  whose oid;
begin
  delete from hark.delayed d where d.number = $1 returning hark.owner_of(d.owner, d.owner_role) into whose;
  if not found then
    return false;
  end if;
  delete from hark.dedupe k where k.delayed = $1;
  perform hark.record_upon(whose, 'cancel', null, 1, format('delayed notification %s', $1));
  return true;
end
$$;

-- Moves due notifications into the log, by deliver_at, then number, and wakes sleeping readers. next_ms says
-- in how many ms the next one is due: null if none is left, 0 or less if more are due now. Rows that another
-- session is cancelling or delivering are skipped; next_ms then says when to look again. Writes nothing if no
-- notification is due. A call moves at most `batch` rows, and ends with the row that passes 32 MB as stored.
--
-- Workers and subscriptions call it, in a transaction of its own. If that transaction stays open, other
-- sessions cannot deliver.
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
  more boolean := false;
  bytes bigint;
  looked integer;
  writer xid8;
  numbers bigint[];
  ids bigint[];
  channels text[];
begin
  if batch is null or batch < 1 then
    raise exception 'batch is %', coalesce(batch::text, 'null')
      using errcode = 'HK006', hint = 'Give the largest number of notifications to move, at least 1.';
  end if;
  moved := 0;
  select d.deliver_at into next_at from hark.delayed d order by d.deliver_at, d.number limit 1;
  if next_at <= until_then then
    -- One session at a time: two sessions that skip each other's rows would give a later notification of a
    -- key the lower id. The lock is freed after the commit is visible, so the next session to get it sees
    -- the moved rows.
    if hark.try_lock('delivery_lock') then
      -- A statement of its own, before ids are drawn: see hark.log.
      writer := pg_current_xact_id();
      begin
        with due as materialized (
          select d.number, d.deliver_at, pg_column_size(d.payload) + coalesce(pg_column_size(d.headers), 0) as size
          from hark.delayed d
          where d.deliver_at <= until_then
          order by d.deliver_at, d.number
          limit batch
          for update skip locked
        )
        select array_agg(u.number order by u.deliver_at, u.number), sum(u.size) into numbers, bytes from due u;
        looked := coalesce(cardinality(numbers), 0);
        -- Seldom: adding up row by row costs a tenth of the delivery.
        if bytes >= 33554432 then
          select array_agg(u.number order by u.place) into numbers
          from (
            select n.number, n.place,
              sum(pg_column_size(d.payload) + coalesce(pg_column_size(d.headers), 0)) over (
                order by n.place rows between unbounded preceding and 1 preceding) as size_before
            from unnest(numbers) with ordinality n (number, place) join hark.delayed d on d.number = n.number
          ) u
          where coalesce(u.size_before, 0) < 33554432;
        end if;
        with gone as materialized (
          delete from hark.delayed d where d.number = any (numbers)
          returning d.number, d.channel, d.key, d.payload, d.headers, d.deliver_at
        ),
        published as (
          -- The current time, because ids and times rise together in the log (hark.clean).
          insert into hark.log (xid, channel, key, payload, headers, created_at)
          select writer, g.channel, g.key, g.payload, g.headers, clock_timestamp()
          from gone g order by g.deliver_at, g.number
          returning log.id, log.channel
        )
        select count(*), array_agg(p.id order by p.id), array_agg(distinct p.channel),
          count(*) = batch or count(*) < looked
        into moved, ids, channels, more
        from published p;
      exception when others then
        if not hark.is_of_a_value(sqlstate) then
          raise;
        end if;
        perform hark.postpone_damaged(until_then, batch);
        moved := 0;
        numbers := null;
        more := true;
      end;
      -- A session that holds one of these rows has found it expired, so no caller will be told its id.
      with known as (
        select k.channel, k.dedupe_key, m.id
        from unnest(numbers, ids) m (number, id) join hark.dedupe k on k.delayed = m.number
        for update of k skip locked
      )
      update hark.dedupe k set id = n.id, delayed = null
      from known n where k.channel = n.channel and k.dedupe_key = n.dedupe_key;
      perform hark.wake_all(channels);
    end if;
    if more then
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
comment on function hark.deliver_due(integer) is
  'Moves due delayed notifications into the log; says in how many ms the next one is due.';

-- Puts off by a day those due notifications whose stored bytes are damaged. They cannot be moved, and would keep
-- all others from being moved.
create or replace function hark.postpone_damaged(until_then timestamptz, batch integer) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  d record;
begin
  for d in
    select x.number, x.payload, x.headers from hark.delayed x
    where x.deliver_at <= until_then order by x.deliver_at, x.number limit batch
  loop
    begin
      perform jsonb_build_array(d.payload, d.headers);
    exception when others then
      if not hark.is_of_a_value(sqlstate) then
        raise;
      end if;
      raise warning 'delayed notification % cannot be read, and is put off by a day: %', d.number, sqlerrm
        using hint = 'Remove it with hark.cancel_delayed.';
      update hark.delayed x set deliver_at = clock_timestamp() + interval '1 day' where x.number = d.number;
    end;
  end loop;
end
$$;

-- Takes a dedupe key for a time. If the key is taken already, returns what was published under it. Waits for
-- an open transaction that took the same key. If this transaction's snapshot is older than that (REPEATABLE
-- READ and above), PostgreSQL raises 40001. The caller must then retry the transaction.
create or replace function hark.take_dedupe(
  channel text, dedupe_key text, within interval, place bigint default null,
  out taken boolean, out id bigint, out delayed bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  known hark.dedupe;
begin
  if $1 is null or $1 = '' or char_length($1) > 200 then
    perform hark.refuse($1, null, null, $4);
  end if;
  if $2 is null or char_length($2) not between 1 and 200 then
    raise exception '%dedupe_key %', coalesce('notification ' || $4 || ' of the array: ', ''),
      coalesce('has ' || char_length($2) || ' characters', 'is null')
      using errcode = 'HK006', hint = 'Give 1 to 200 characters.';
  end if;
  if $3 is null or $3 <= interval '0' or $3 > interval '3653 days' then
    raise exception '%within is %', coalesce('notification ' || $4 || ' of the array: ', ''), coalesce($3::text, 'null')
      using errcode = 'HK006', hint = 'Give an interval above 0, of at most 10 years.';
  end if;
  taken := true;
  loop
    -- Read before anything is locked: a duplicate then makes no other transaction wait.
    select k.* into known from hark.dedupe k where k.channel = $1 and k.dedupe_key = $2;
    if not found then
      insert into hark.dedupe (channel, dedupe_key, expires_at) values ($1, $2, clock_timestamp() + $3)
      on conflict on constraint dedupe_pkey do nothing;
    elsif known.id is null and known.delayed is null then
      return;  -- taken by hark.notify_each for one of its notifications
    elsif known.expires_at > clock_timestamp() then
      taken := false; id := known.id; delayed := known.delayed;
      return;
    else
      update hark.dedupe k set id = null, delayed = null, expires_at = clock_timestamp() + $3
      where k.channel = $1 and k.dedupe_key = $2 and k.expires_at <= clock_timestamp();
    end if;
    if found then
      return;
    end if;
  end loop;
end
$$;

-- Publishes under a dedupe key. The first call publishes. Until `within` has passed since that call, later
-- calls publish nothing and return what the first call returned. A key belongs to its channel, and all roles
-- that may publish share it, as they share the channel. The key's row stays if the first transaction commits. A second transaction with the same key waits for the first, and
-- publishes if the first rolls back.
--   id  the id in the log, or the number in hark.delayed if is_delayed
create or replace function hark.notify_once(
  channel text, payload jsonb default '{}', key text default null, headers jsonb default null,
  dedupe_key text default null, within interval default '1 day', deliver_at timestamptz default null
) returns table (id bigint, is_delayed boolean, is_duplicate boolean)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
declare
  first record;
begin
  select t.* into first from hark.take_dedupe($1, $5, $6) t;
  is_duplicate := not first.taken;
  is_delayed := case when is_duplicate then first.id is null else $7 is not null end;
  if is_duplicate then
    id := coalesce(first.id, first.delayed);
  elsif is_delayed then
    id := hark.notify_at($1, $2, $3, $4, $7);
    update hark.dedupe k set delayed = notify_once.id where k.channel = $1 and k.dedupe_key = $5;
  else
    id := hark.notify($1, $2, $3, $4);
    update hark.dedupe k set id = notify_once.id where k.channel = $1 and k.dedupe_key = $5;
  end if;
  return next;
end
$$;
comment on function hark.notify_once(text, jsonb, text, jsonb, text, interval, timestamptz) is
  'Publishes, unless a call with the same dedupe_key on this channel has published within a time.';

-- hark.notify_many for notifications of which some are delayed or have a dedupe key. Publishes all or none.
-- Takes an array of {channel, payload, key, headers, delay_ms, deliver_at, dedupe_key, within_ms}. Returns a
-- row for each, in their order.
create or replace function hark.notify_each(notifications json)
returns table (id bigint, is_delayed boolean, is_duplicate boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  n record;
begin
  if $1 is null then
    raise exception 'notifications is null'
      using errcode = 'HK006', hint = 'Give an array, such as [{"channel": "orders"}].';
  end if;
  -- Take all keys first, in the same order in every call. Two calls that share keys then wait for each other
  -- and do not deadlock.
  for n in
    select distinct on (k.channel collate "C", k.dedupe_key collate "C") k.*
    from rows from (
      json_to_recordset($1) as (channel text, dedupe_key text, within_ms double precision)
    ) with ordinality as k (channel, dedupe_key, within_ms, place)
    where k.dedupe_key is not null
    order by k.channel collate "C", k.dedupe_key collate "C", k.place
  loop
    perform hark.take_dedupe(
      n.channel, n.dedupe_key, hark.as_interval('within', coalesce(n.within_ms, 86400000), n.place), n.place);
  end loop;
  for n in
    select k.*
    from rows from (
      json_to_recordset($1) as (
        channel text, payload jsonb, key text, headers jsonb, delay_ms double precision, deliver_at timestamptz,
        dedupe_key text, within_ms double precision
      )
    ) with ordinality as k (channel, payload, key, headers, delay_ms, deliver_at, dedupe_key, within_ms, place)
    order by k.place
  loop
    -- Here, as the functions below do not know the place.
    if n.channel is null or n.channel = '' or char_length(n.channel) > 200 or char_length(n.key) > 1000
      or jsonb_typeof(n.headers) <> 'object'
    then
      perform hark.refuse(n.channel, n.key, n.headers, n.place);
    end if;
    if n.delay_ms is not null then
      if n.deliver_at is not null then
        raise exception 'notification % of the array: both a delay (% ms) and a deliver_at are given', n.place, n.delay_ms
          using errcode = 'HK006', hint = 'Give only one of them.';
      end if;
      n.deliver_at := clock_timestamp() + hark.as_interval('delay', n.delay_ms, n.place);
    elsif n.deliver_at is not null and
      (isfinite(n.deliver_at) and n.deliver_at <= clock_timestamp() + interval '3653 days') is not true
    then
      perform hark.refuse_time(n.deliver_at, n.place);
    end if;
    if n.dedupe_key is not null then
      return query select o.* from hark.notify_once(n.channel, n.payload, n.key, n.headers, n.dedupe_key,
        hark.as_interval('within', coalesce(n.within_ms, 86400000), n.place), n.deliver_at) o;
      continue;
    end if;
    is_duplicate := false;
    is_delayed := n.deliver_at is not null;
    id := case when is_delayed then hark.notify_at(n.channel, n.payload, n.key, n.headers, n.deliver_at)
      else hark.notify(n.channel, n.payload, n.key, n.headers) end;
    return next;
  end loop;
end
$$;
comment on function hark.notify_each(json) is
  'Publishes an array of {channel, payload, key, headers, delay_ms, deliver_at, dedupe_key, within_ms} in '
  'this transaction.';

create or replace function hark.as_interval(what text, ms double precision, place bigint) returns interval
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  if not (ms >= 0 and ms <= 315619200000) then
    raise exception 'notification % of the array: % is % ms', place, what, ms
      using errcode = 'HK006', hint = 'Give milliseconds, from 0 to 315619200000 (10 years).';
  end if;
  return make_interval(secs => ms / 1000);
end
$$;

-- Removes expired dedupe keys, at most `batch`, and returns their number. hark.clean calls it;
-- publishing does not. If a publishing transaction removed a key and stayed open, other publishers
-- under that key would wait.
create or replace function hark.forget_dedupe(batch integer default 10000) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
  forgotten bigint;
begin
  delete from hark.dedupe k
  using (
    select e.channel, e.dedupe_key from hark.dedupe e
    where e.expires_at <= clock_timestamp()
    order by e.expires_at
    limit batch
    for update skip locked
  ) e
  where k.channel = e.channel and k.dedupe_key = e.dedupe_key;
  get diagnostics forgotten = row_count;
  return forgotten;
end
$$;
comment on function hark.forget_dedupe(integer) is 'Removes dedupe keys that have expired.';

-- How many delayed notifications there are, counted up to `most`, and when the first one is due. That time is
-- in the past if no worker runs that would deliver it.
create or replace function hark.delayed_status(most bigint default 100000) returns table (waiting bigint, next_at timestamptz)
language sql stable security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
  select (select count(*) from (select from hark.delayed limit $1) d),
    (select d.deliver_at from hark.delayed d order by d.deliver_at, d.number limit 1)
$$;
