-- Hark 005: who may do what, how far everybody is, and cleaning.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (5, 'operate');

create function hark.grant_functions(role_name text, functions text[]) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  f regprocedure;
begin
  if not exists (select from pg_roles r where r.rolname = role_name) then
    raise exception 'there is no role "%"', role_name
      using errcode = 'HK006', hint = 'Create it first; names are case-sensitive here.';
  end if;
  execute format('grant usage on schema hark to %I', role_name);
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'hark'::regnamespace and p.proname = any (functions)
  loop
    execute format('grant execute on function %s to %I', f, role_name);
  end loop;
end
$$;

create function hark.grant_publish(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select hark.grant_functions(role_name, array['version', 'notify', 'smart_notify', 'notify_many']) $$;
comment on function hark.grant_publish(text) is 'Lets a role publish. Run it as the owner of the schema.';

create function hark.grant_consume(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'waymark', 'timeline', 'start_position', 'window_open', 'window_read', 'window_advance',
    'channels_of', 'register', 'claim', 'window', 'acknowledge', 'renew', 'record_failure', 'release', 'status'
  ])
$$;
comment on function hark.grant_consume(text) is
  'Lets a role read the log, register consumers and serve them: any of them, so such roles trust each other. Run it as the owner of the schema.';

-- Removes a consumer with its position, so that it no longer holds back cleaning; a worker that serves it ends
-- with an error. Returns whether there was one.
create function hark.remove_consumer(consumer text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.consumers c where c.name = $1;
  return found;
end
$$;
comment on function hark.remove_consumer(text) is
  'Removes a consumer and its position; what it had not read counts as read. For the owner of the schema.';

-- Whether a position is past a row.
create function hark.is_consumed(id bigint, xid xid8, p hark.position, rebased_through bigint)
returns boolean
language sql immutable security definer set search_path = pg_catalog, pg_temp
as $$
  select case
    when ($3).seen::text = '1:1:' and $1 <= ($3).floor then true
    when $1 <= $4 and ($3).seen::text <> '1:1:' then true
    when pg_visible_in_snapshot($2, ($3).seen) then true
    else ($3).target is not null and $1 <= ($3).last_id
      and ($1 <= $4 or pg_visible_in_snapshot($2, ($3).target))
  end
$$;

-- How far each consumer is. Counting stops at max_count, as nobody needs the exact size of a large backlog.
create function hark.status(max_count bigint default 100000) returns table (
  consumer text, channels text[], partition integer, unread bigint, oldest_unread timestamptz,
  lag_seconds double precision, owner uuid, lease_until timestamptz, handled bigint,
  acknowledged_at timestamptz, failing_id bigint, attempts integer, last_error text,
  failed_at timestamptz, created_at timestamptz
)
language sql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
  select c.name, c.channels, p.partition, u.unread, u.oldest,
    coalesce(extract(epoch from greatest(clock_timestamp() - u.oldest, interval '0'))::double precision, 0),
    p.owner, p.lease_until, p.handled, p.acknowledged_at, p.failing_id, p.attempts, p.last_error,
    p.failed_at, c.created_at
  from hark.consumers c
  join hark.partitions p on p.consumer = c.name
  cross join hark.install i
  cross join lateral (
    select count(*) as unread, min(l.created_at) as oldest
    from (
      select l.created_at from hark.log l
      where l.id > least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low)))
        and l.channel = any (c.channels)
        and not hark.is_consumed(l.id, l.xid, p.position, i.rebased_through)
      limit max_count
    ) l
  ) u
  order by c.name, p.partition
$$;

-- What a row takes, as stored: of the row as a whole pg_column_size would unpack the payload and tell its
-- size in memory. The rest of a row is 60 bytes or so.
create function hark.stored_bytes(channel text, key text, payload jsonb, headers jsonb) returns bigint
language sql stable
as $$
  select 60::bigint operator(pg_catalog.+) pg_catalog.pg_column_size($1)
    operator(pg_catalog.+) coalesce(pg_catalog.pg_column_size($2), 0)
    operator(pg_catalog.+) pg_catalog.pg_column_size($3)
    operator(pg_catalog.+) coalesce(pg_catalog.pg_column_size($4), 0)
$$;

-- Removes old notifications, a batch a call, in id order from after_id: those published before `cutoff` that
-- every consumer has read. `forced` removes them unread. With dry_run nothing is removed, only counted.
-- Returns where to go on (null: finished), how many were removed, how many that are old enough were kept,
-- and the bytes removed as stored.
create function hark.clean(
  cutoff timestamptz, after_id bigint default 0, batch integer default 10000,
  forced boolean default false, dry_run boolean default false
) returns table (next_id bigint, removed bigint, kept bigint, bytes bigint, last_created_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  through bigint;
  floor_of_all bigint;
  complete_through bigint;
  looked bigint;
begin
  -- On a server this was restored to, what nobody has read would look read.
  perform hark.rebase();
  -- Waits for registrations under way, and holds new ones back for this batch: see hark.register.
  lock table hark.consumers in share row exclusive mode;
  -- Nobody's window can hold a row at or below the lowest floor and low; those above are checked one by one.
  select min(least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))))
  into floor_of_all from hark.partitions p;
  select i.rebased_through into complete_through from hark.install i;
  select max(l.id), count(*), max(l.created_at), count(*) filter (where l.created_at < cutoff)
  into through, looked, last_created_at, kept
  from (
    select l.id, l.created_at from hark.log l where l.id > after_id order by l.id limit batch
  ) l;
  -- Ids and times run side by side, but for the moment between a call's clock and its id: a whole batch
  -- without an old row is the end.
  if looked = 0 or kept = 0 then
    return query select null::bigint, 0::bigint, 0::bigint, 0::bigint, last_created_at;
    return;
  end if;
  next_id := case when looked < batch then null else through end;
  if dry_run then
    select count(*), coalesce(sum(hark.stored_bytes(l.channel, l.key, l.payload, l.headers)), 0) into removed, bytes
    from hark.log l
    where l.id > after_id and l.id <= through and l.created_at < cutoff
      and (forced or floor_of_all is null or l.id <= floor_of_all
        or not exists (select from hark.partitions p
          where not hark.is_consumed(l.id, l.xid, p.position, complete_through)));
  else
    with gone as (
      delete from hark.log l
      where l.id > after_id and l.id <= through and l.created_at < cutoff
        and (forced or floor_of_all is null or l.id <= floor_of_all
          or not exists (select from hark.partitions p
            where not hark.is_consumed(l.id, l.xid, p.position, complete_through)))
      returning hark.stored_bytes(l.channel, l.key, l.payload, l.headers) as size
    )
    select count(*), coalesce(sum(g.size), 0) into removed, bytes from gone g;
    -- Waymarks below what is gone lead nowhere; the newest and the first stay.
    delete from hark.waymarks w
    where w.number > 0 and w.seen_max <= through and w.number < (select max(n.number) - 10 from hark.waymarks n);
  end if;
  kept := kept - removed;
  return next;
end
$$;

revoke execute on all functions in schema hark from public;
