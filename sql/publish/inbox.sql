-- Inboxes: what comes from the stream of another system, and is published here. The place up to which messages
-- were taken is stored in the transaction that publishes them. So each message is published once, whatever
-- the stream delivers again.

-- The place of an inbox in its source, and the time of its place. A new one begins at `place`. other: the source that it has belonged to
-- until now, if that is another one. The old place means nothing there, so the inbox begins with the first
-- message: what came before it looked is not to be lost.
create or replace function hark.inbox_place(
  inbox text, source text, place bigint, place_time timestamptz default null
)
returns table (known bigint, known_time timestamptz, other text)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
begin
  insert into hark.inboxes as i (name, source, place, place_time) values ($1, $2, $3, $4)
  on conflict on constraint inboxes_pkey do nothing;
  select i.place, i.place_time, nullif(i.source, $2) into known, known_time, other
  from hark.inboxes i where i.name = $1 for update;
  if other is not null then
    known := 0;
    known_time := null;
    update hark.inboxes i set source = $2, place = 0, place_time = null where i.name = $1;
  end if;
  return next;
end
$$;
comment on function hark.inbox_place(text, text, bigint, timestamptz) is 'For an inbox: up to which place it has taken messages.';

-- Moves the place of an inbox, in the transaction that publishes what was taken, and keeps what could not be
-- published: an array of {sequence, subject, headers, body, within_ms, reason}, with the body in base64. `pending` says
-- how many messages the source has behind the place. False if the place is not where the caller has left it: another
-- process serves the inbox.
create or replace function hark.inbox_take(
  inbox text, source text, expected bigint, place bigint, dead json, pending bigint default null,
  place_time timestamptz default null
) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update hark.inboxes i set place = $4, place_time = $7, taken_at = clock_timestamp(), pending = $6
  where i.name = $1 and i.source = $2 and i.place = $3;
  if not found then
    return false;
  end if;
  insert into hark.inbox_dead (inbox, sequence, subject, headers, body, within_ms, reason)
  select $1, d.sequence, d.subject, coalesce(d.headers, '{}'), decode(d.body, 'base64'), d.within_ms, d.reason
  from json_to_recordset($5) as d (
    sequence bigint, subject text, headers jsonb, body text, within_ms bigint, reason text
  );
  return true;
end
$$;

-- All inboxes, by name. dead: how many dead letters, at most max_count; dead_since: when the oldest came about.
-- pending: how many messages the source had left when the inbox last took some. trouble: what it waits for.
create or replace function hark.inbox_status(max_count bigint)
returns table (
  inbox text, source text, place bigint, taken_at timestamptz, dead bigint, dead_since timestamptz, pending bigint,
  trouble text, trouble_since timestamptz, dead_reason text
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select i.name, i.source, i.place, i.taken_at,
    (select count(*) from (select from hark.inbox_dead d where d.inbox = i.name limit $1) c),
    (select d.failed_at from hark.inbox_dead d where d.inbox = i.name order by d.number limit 1),
    i.pending, hark.sendable(t.reason), t.since,
    (select hark.sendable(d.reason) from hark.inbox_dead d where d.inbox = i.name order by d.number desc limit 1)
  from hark.inboxes i left join hark.troubles t on t.kind = 'inbox' and t.name = i.name
  order by i.name collate "C"
$$;

-- The dead letters of an inbox, the oldest first. number: what it is told by; sequence: its number in the source.
create or replace function hark.inbox_dead_letters(inbox text, after bigint, batch integer)
returns table (number bigint, sequence bigint, subject text, headers jsonb, body text, within_ms bigint, reason text, failed_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select d.number, d.sequence, d.subject, d.headers, translate(encode(d.body, 'base64'), E'\n', ''), d.within_ms, d.reason, d.failed_at
  from hark.inbox_dead d
  where d.inbox = $1 and d.number > $2
  order by d.number
  limit $3
$$;

-- The same without their headers and bodies, to look at.
create or replace function hark.inbox_dead_in_outline(inbox text, after bigint, batch integer)
returns table (number bigint, sequence bigint, subject text, bytes integer, reason text, failed_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select d.number, d.sequence, d.subject, octet_length(d.body), d.reason, d.failed_at
  from hark.inbox_dead d
  where d.inbox = $1 and d.number > $2
  order by d.number
  limit least($3, 10000)
$$;

-- Takes a dead letter away, in the transaction that publishes it, or for good, and records which. False if it is gone.
create or replace function hark.inbox_settle(inbox text, number bigint, is_published boolean default false)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.inbox_dead d where d.inbox = $1 and d.number = $2;
  if found then
    perform hark.record_act(case when $3 then 'redrive' else 'discard' end, null, 1,
      format('dead letter %s of the inbox %s', $2, $1));
    return true;
  end if;
  return false;
end
$$;
