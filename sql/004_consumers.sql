-- Hark 004: consumers, who serves them, and how far they have read.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (4, 'consumers');

create table hark.consumers (
  name text primary key,
  channels text[] not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint name_is_1_to_200_characters check (char_length(name) between 1 and 200),
  constraint consumer_has_a_channel check (cardinality(channels) > 0)
);

-- Updated on every acknowledgement, so rows stay small and find room on their own page.
create table hark.partitions (
  consumer text not null references hark.consumers on update cascade on delete cascade,
  partition integer not null default 0 check (partition >= 0),
  "position" hark.position not null,
  -- Who serves it. The epoch rises with each claim and fences out whoever held an earlier one.
  epoch bigint not null default 0,
  owner uuid,
  owner_session bigint,        -- advisory lock key held by the owner's LISTEN session, where it has one
  lease_until timestamptz,
  -- What became of it.
  handled bigint not null default 0,
  acknowledged_at timestamptz,
  failing_id bigint,           -- the notification being retried, null when none is
  attempts integer not null default 0,
  last_error text,
  failed_at timestamptz,
  primary key (consumer, partition)
) with (fillfactor = 50);

-- After a dump and restore into another cluster, that server gives out transaction numbers that the log
-- already holds, and every stored snapshot is meaningless. Seen by the server's identity; then, with
-- publishing stopped for a moment, all that is stored counts as complete, and every position goes back to
-- where it can be sure of: repeats rather than losses. pg_upgrade keeps the numbers and needs none of it.
-- That this server's numbers have passed all stored ones by now would prove nothing: what was published here
-- before they did, before any reader came, has numbers that the stored snapshots count as seen.
create function hark.rebase() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here bigint;
  highest xid8;
  own xid8;
  upgraded boolean;
  through bigint;
begin
  select c.system_identifier into here from pg_control_system() c;
  if exists (select from hark.install i where i.system_identifier = here) or pg_is_in_recovery() then
    return false;
  end if;
  lock table hark.log in share row exclusive mode;
  if exists (select from hark.install i where i.system_identifier = here) then
    return false;
  end if;
  own := pg_current_xact_id();
  select x.xid into highest from (
    (select l.xid from hark.log l order by l.xid desc limit 1)
    union all
    (select pg_snapshot_xmax(w.seen) from hark.waymarks w)
    union all
    (select greatest(pg_snapshot_xmax((p.position).seen),
      coalesce(pg_snapshot_xmax((p.position).target), pg_snapshot_xmax((p.position).seen)))
    from hark.partitions p)
  ) x order by x.xid desc limit 1;
  select i.written_by = i.xmin into upgraded from hark.install i;
  if upgraded and (highest is null or highest < own) then
    update hark.install set system_identifier = here;
    update hark.install i set written_by = i.xmin;
    return false;
  end if;
  through := hark.drawn();
  update hark.install set system_identifier = here, rebased_through = through;
  update hark.install i set written_by = i.xmin;
  delete from hark.incarnation;
  delete from hark.waymarks;
  insert into hark.waymarks values
    (0, '-infinity', '1:1:', through, 0, '{}', '{}', own),
    (1, clock_timestamp(), '1:1:', through, through, '{}', '{}', own);
  update hark.partitions p set
    "position" = row('1:1:'::pg_snapshot, through,
      least((p.position).floor, (select min(t.low) from unnest((p.position).lows) t (low))),
      '{}'::xid8[], '{}'::bigint[], null, null, null, null)::hark.position,
    epoch = p.epoch + 1, owner = null, owner_session = null, lease_until = null;
  return true;
end
$$;
comment on function hark.rebase() is
  'Makes the log readable on a server it was restored to; does nothing elsewhere. Called by every reader as it starts.';

-- The channels of a consumer; null where there is none of that name.
create function hark.channels_of(consumer text) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select c.channels from hark.consumers c where c.name = $1 $$;

-- Registers a consumer where there is none of that name (returns true), else replaces its channels. A
-- channel added to a consumer that exists is delivered from where the consumer stands.
create function hark.register(
  consumer text, channels text[], start_kind text default 'beginning',
  start_id bigint default null, start_time timestamptz default null
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  start hark.position;
begin
  if exists (select from hark.consumers c where c.name = $1 and c.channels = $2) then
    return false;
  end if;
  perform hark.require_fresh_snapshot();
  -- Held against hark.clean: what is published and removed between this snapshot and this commit would be
  -- this consumer's, and gone.
  lock table hark.consumers in row exclusive mode;
  start := hark.start_position(start_kind, start_id, start_time);
  insert into hark.consumers (name, channels) values ($1, $2) on conflict do nothing;
  if found then
    insert into hark.partitions (consumer, "position") values ($1, start);
    return true;
  end if;
  update hark.consumers c set channels = $2 where c.name = $1 and c.channels <> $2;
  return false;
end
$$;

-- Tries to become the owner of a partition. Outcomes:
--   claimed  it is yours, under the epoch returned
--   held     somebody else's lease runs for wait_ms more
--   gone     its lease runs, but the session that stood for the owner has ended: wait a moment, so that an
--            owner that is only reconnecting can come back, then claim with presume_gone
create function hark.claim(
  consumer text, partition integer, owner uuid, owner_session bigint, lease_ms integer,
  presume_gone boolean default false
) returns table (
  outcome text, epoch bigint, wait_ms double precision, "position" text, in_window boolean, started text,
  failing_id bigint, attempts integer, incarnation text
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  held hark.partitions;
begin
  select * into held from hark.partitions p where p.consumer = $1 and p.partition = $2 for update;
  if not found then
    raise exception 'there is no consumer "%"', $1
      using errcode = 'HK007', hint = 'Register it first; somebody may have removed it.';
  end if;
  if held.owner is not null and held.owner <> $3 and held.lease_until > clock_timestamp() then
    if held.owner_session is null or not pg_try_advisory_xact_lock(held.owner_session) then
      return query select 'held'::text, held.epoch,
        extract(epoch from held.lease_until - clock_timestamp())::double precision * 1000,
        null::text, null::boolean, null::text, null::bigint, null::integer, null::text;
      return;
    elsif not presume_gone then
      return query select 'gone'::text, held.epoch, 1000::double precision, null::text, null::boolean,
        null::text, null::bigint, null::integer, null::text;
      return;
    end if;
  end if;
  return query
  -- What is stored has survived any crash, which what a worker remembers may not have.
  update hark.partitions p set
    epoch = p.epoch + 1, owner = $3, owner_session = $4, "position".incarnation = null,
    lease_until = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
  where p.consumer = $1 and p.partition = $2
  returning 'claimed'::text, p.epoch, 0::double precision, p.position::text,
    (p.position).target is not null, pg_current_snapshot()::text, p.failing_id, p.attempts,
    hark.incarnation()::text;
end
$$;

create function hark.raise_fenced(consumer text, partition integer, epoch bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'consumer "%" is no longer served under epoch % of partition %', $1, $3, $2
    using errcode = 'HK005',
      hint = 'Another worker has taken it over, or it was removed. Claim it again.';
end
$$;

-- What an owner reads next: its position with a window open, and the channels of the consumer.
create function hark.window(consumer text, partition integer, owner uuid, epoch bigint, p hark.position)
returns table ("position" hark.position, channels text[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp rows 1
as $$
declare
  wanted text[];
begin
  select c.channels into wanted
  from hark.partitions s join hark.consumers c on c.name = s.consumer
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
  return query select hark.window_open(p), wanted;
end
$$;

-- Stores how far the owner has read and handled: to the end of the page that gave it `p`, or only through
-- an id of that page. Advances past a window that is read to its end, renews the lease, and returns the
-- position to go on from. In a transaction of its own it is the fence between two windows. In one that has
-- written already it may be none, as that one's number may be older than the window: the position then keeps
-- its older seen_max, so that the next floor does not rise and nothing is lost.
create function hark.acknowledge(
  consumer text, partition integer, owner uuid, epoch bigint, p hark.position,
  handled bigint, lease_ms integer, through bigint default null
) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  writing boolean := pg_current_xact_id_if_assigned() is not null;
  moved hark.position;
begin
  if p.incarnation is distinct from hark.incarnation() then
    raise exception 'the server has restarted after a crash since this window was opened'
      using errcode = 'HK004', hint = 'Load the stored position and open a new window.';
  end if;
  if through is not null then
    p.last_id := through;
  end if;
  moved := hark.window_advance(p);
  if writing then
    moved.seen_max := p.seen_max;
  end if;
  update hark.partitions s set
    "position" = moved,
    handled = s.handled + $6,
    acknowledged_at = case when $6 > 0 then clock_timestamp() else s.acknowledged_at end,
    failing_id = case when $6 > 0 then null else s.failing_id end,
    attempts = case when $6 > 0 then 0 else s.attempts end,
    lease_until = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
  return moved::text;
end
$$;

-- Renews the lease. An owner whose LISTEN session has ended renews without one: from then on its lease alone
-- counts, and nobody takes over only because the session's lock is free.
create function hark.renew(
  consumer text, partition integer, owner uuid, epoch bigint, lease_ms integer,
  owner_session bigint default null
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s
  set owner_session = $6,
    lease_until = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
end
$$;

-- Remembers a failed attempt, so that the next worker goes on counting and `hark status` can tell.
create function hark.record_failure(
  consumer text, partition integer, owner uuid, epoch bigint, id bigint, attempt integer, error text
) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s
  set failing_id = $5, attempts = $6, last_error = left($7, 10000), failed_at = clock_timestamp()
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  if not found then
    perform hark.raise_fenced($1, $2, $4);
  end if;
end
$$;

-- Gives the partition back, so that the next worker need not wait for the lease. Nothing to do when it
-- is no longer the caller's.
create function hark.release(consumer text, partition integer, owner uuid, epoch bigint) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.partitions s set owner = null, owner_session = null, lease_until = null
  where s.consumer = $1 and s.partition = $2 and s.owner = $3 and s.epoch = $4;
  return found;
end
$$;

revoke execute on all functions in schema hark from public;
