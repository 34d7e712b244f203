-- Hark 001: the schema, the log, and publishing.
--
-- Run each file of this folder once, in order, in a transaction of its own:
--   psql -v ON_ERROR_STOP=1 -1 -f sql/001_log.sql
-- Each file records itself in hark.migrations; running it twice fails and changes nothing.

set local search_path = pg_catalog, pg_temp;

create schema hark;
comment on schema hark is 'Durable LISTEN/NOTIFY: a log of notifications and the consumers that read it.';

create table hark.migrations (
  version integer primary key,
  name text not null,
  applied_at timestamptz not null default clock_timestamp()
);
insert into hark.migrations (version, name) values (1, 'log');

-- Which install this is, and which server its transaction numbers belong to. After a dump and restore
-- the numbers stored in the log mean nothing to the new server: see hark.rebase().
create table hark.install (
  singleton boolean primary key default true check (singleton),
  id uuid not null default gen_random_uuid(),
  system_identifier bigint not null,
  rebased_through bigint not null default 0,
  -- This row's own xmin as it was written: still that after pg_upgrade, which copies files and keeps the
  -- transaction numbers, and another after a restore, which inserts anew and keeps none.
  written_by xid
);
insert into hark.install (system_identifier)
select system_identifier from pg_control_system();
update hark.install i set written_by = i.xmin;

-- Unlogged on purpose: PostgreSQL empties it in crash recovery. A crash hands out again the transaction
-- numbers that had not reached the disk, so a snapshot window kept in somebody's memory may count
-- notifications as read that nobody has read. A window carries this id and is refused when it changed,
-- also behind a pooler that hides the lost connection.
create unlogged table hark.incarnation (
  singleton boolean primary key default true check (singleton),
  id uuid not null default gen_random_uuid()
);

-- The transaction number is the first column so that it is taken before the id is drawn, whoever
-- inserts: reading rests on that order (hark.window_open).
create table hark.log (
  xid xid8 not null default pg_current_xact_id(),
  id bigint generated always as identity (cache 1) primary key,
  channel text not null,
  key text,
  payload jsonb not null,
  headers jsonb,
  created_at timestamptz not null default clock_timestamp(),
  constraint channel_is_1_to_200_characters check (char_length(channel) between 1 and 200),
  constraint key_is_at_most_1000_characters check (char_length(key) <= 1000),
  constraint headers_are_an_object check (jsonb_typeof(headers) = 'object')
);
comment on table hark.log is 'Notifications. Append-only: publish with hark.notify, remove with hark cleanup.';

create function hark.version() returns integer
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select max(m.version) from hark.migrations m $$;
comment on function hark.version() is 'The version of the installed schema.';

-- The three publishing functions are the hot path. A SET clause costs 2 to 5 % of a publish, so they have
-- none: instead every name and operator is qualified, and no construct is used that looks an operator up
-- by the caller's search_path (IN, IS DISTINCT FROM, CASE x WHEN, NULLIF, BETWEEN, LIKE).

create function hark.notify(
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
begin
  -- A statement of its own, before the insert: the number must be taken before the id is drawn.
  writer := pg_catalog.pg_current_xact_id();
  insert into hark.log (xid, channel, key, payload, headers, created_at)
  values (writer, $1, $3, coalesce($2, 'null'::pg_catalog.jsonb), $4, pg_catalog.clock_timestamp())
  returning log.id into drawn;
  -- A full NOTIFY queue fails the commit, so near one the consumers' polling has to do.
  if coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
  then
    perform pg_catalog.pg_notify('hark', $1);
  end if;
  return drawn;
end
$$;
comment on function hark.notify(text, jsonb, text, jsonb) is
  'Publishes a notification in this transaction and returns its id. SET LOCAL hark.wake = off publishes without NOTIFY.';

create function hark.smart_notify(channel_name text, payload_data jsonb default '{}') returns bigint
language plpgsql volatile security definer
as $$
begin
  return hark.notify($1, $2);
end
$$;
comment on function hark.smart_notify(text, jsonb) is 'hark.notify under the name django-pgwatch gave it.';

-- One insert for many. The parameter is json, not jsonb: a jsonb value ends at 256 MB and would be parsed
-- twice. A missing payload is JSON null here; a missing key or missing headers are SQL null.
create function hark.notify_many(notifications json) returns setof bigint
language plpgsql volatile security definer
as $$
declare
  writer pg_catalog.xid8;
  drawn bigint[];
  channels pg_catalog.text[];
begin
  writer := pg_catalog.pg_current_xact_id();
  with published as (
    insert into hark.log (xid, channel, key, payload, headers, created_at)
    select writer, n.channel, n.key, coalesce(n.payload, 'null'::pg_catalog.jsonb), n.headers,
      pg_catalog.clock_timestamp()
    from rows from (
      pg_catalog.json_to_recordset($1) as (
        channel pg_catalog.text, key pg_catalog.text, payload pg_catalog.jsonb, headers pg_catalog.jsonb
      )
    ) with ordinality as n (channel, key, payload, headers, place)
    order by n.place
    returning log.id, log.channel
  )
  select pg_catalog.array_agg(p.id order by p.id), pg_catalog.array_agg(distinct p.channel)
  into drawn, channels
  from published p;
  if coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
  then
    perform pg_catalog.pg_notify('hark', c.channel) from pg_catalog.unnest(channels) as c (channel);
  end if;
  return query select d.id from pg_catalog.unnest(drawn) as d (id);
end
$$;
comment on function hark.notify_many(json) is
  'Publishes an array of {channel, payload, key, headers} in this transaction; returns their ids in order.';

revoke execute on all functions in schema hark from public;
