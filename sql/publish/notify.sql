-- Publishing, in the caller's transaction.

-- The publishing functions are the hot path. A SET clause costs 2 to 5 % of a publish, so they have none.
-- Instead every name and operator is qualified. No construct is used that looks an operator up by the
-- caller's search_path (IN, IS DISTINCT FROM, CASE x WHEN, NULLIF, BETWEEN, LIKE).
--
-- PostgreSQL prepares every expression anew in each transaction. A statement of PL/pgSQL costs 2 to 3 % of a
-- publish, each function and operator in it 1 %. So a first look tells whether anything is special, and only
-- then the parts are looked at. RETURNING costs more than currval: it is prepared twice, for the log and for
-- its segment. `deno task bench instructions` counts.
--
-- The insert takes the lock on the log, then the transaction's number, which is the log's first column, then the
-- id. Reading rests on the order of the last two (read/marks.sql). Waking rests on the gate being looked at
-- after that, in a later statement (read/wake.sql).
create or replace function hark.notify(
  channel text,
  payload jsonb default '{}',
  key text default null,
  headers jsonb default null
) returns bigint
language plpgsql volatile security definer
as $$
begin
  -- The lengths of channel and key in one comparison, which also finds an empty channel: -1 is the highest oid.
  -- hark.context is null in a session that never had one. A null payload is looked for here: coalesce in the
  -- insert costs 1 % of a publish more.
  if $1 is null or $2 is null or greatest((pg_catalog.octet_length($1) operator(pg_catalog.-) 1)::pg_catalog.oid,
      pg_catalog.octet_length($3)::pg_catalog.oid) operator(pg_catalog.>) 199::pg_catalog.oid
    or $4 is not null or pg_catalog.current_setting('hark.context', true) is not null
  then
    if ($1 operator(pg_catalog.=) '') is not false or pg_catalog.char_length($1) operator(pg_catalog.>) 200
      or pg_catalog.char_length($3) operator(pg_catalog.>) 1000
      or pg_catalog.jsonb_typeof($4) operator(pg_catalog.<>) 'object'
    then
      perform hark.refuse($1, $3, $4);
    end if;
    if pg_catalog.current_setting('hark.context', true) operator(pg_catalog.<>) '' then
      $4 := hark.in_context($4);
    end if;
    $2 := coalesce($2, 'null'::pg_catalog.jsonb);
  end if;
  insert into hark.log (xid, channel, key, payload, headers, created_at)
  values (pg_catalog.pg_current_xact_id(), $1, $3, $2, $4, pg_catalog.clock_timestamp());
  if hark.is_front_gate_open($1) then
    if hark.is_gate_open($1) then
      perform hark.wake_one($1);
    end if;
  end if;
  return pg_catalog.currval('hark.log_id_seq'::pg_catalog.regclass);
end
$$;
comment on function hark.notify(text, jsonb, text, jsonb) is
  'Publishes a notification in this transaction and returns its id. SET LOCAL hark.wake = off publishes '
  'without NOTIFY.';

create or replace function hark.smart_notify(channel_name text, payload_data jsonb default '{}') returns bigint
language plpgsql volatile security definer
as $$
begin
  return hark.notify($1, $2);
end
$$;
comment on function hark.smart_notify(text, jsonb) is
  'hark.notify under the name that django-pgwatch gave it.';

-- One insert for many notifications. The parameter is json, not jsonb: a jsonb value ends at 256 MB and would
-- be parsed twice. A missing payload becomes JSON null. A missing key or missing headers become SQL null.
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
    -- A channel that is missing is refused below, with its place.
    select writer, coalesce(n.channel, ''), n.key, coalesce(n.payload, 'null'::pg_catalog.jsonb),
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
  select pg_catalog.array_agg(p.id order by p.id), pg_catalog.array_agg(distinct p.channel),
    pg_catalog.bool_or(p.invalid) or $1 is null
  into drawn, channels, refused
  from published p;
  if refused then
    if $1 is null then
      raise exception 'notifications is null'
        using errcode = 'HK006', hint = 'Give an array, such as [{"channel": "orders"}].';
    end if;
    perform hark.refuse(n.channel, n.key, n.headers, n.place)
    from rows from (
      pg_catalog.json_to_recordset($1) as (channel pg_catalog.text, key pg_catalog.text, headers pg_catalog.jsonb)
    ) with ordinality as n (channel, key, headers, place)
    where n.channel is null or n.channel operator(pg_catalog.=) ''
      or pg_catalog.char_length(n.channel) operator(pg_catalog.>) 200
      or pg_catalog.char_length(n.key) operator(pg_catalog.>) 1000
      or pg_catalog.jsonb_typeof(n.headers) operator(pg_catalog.<>) 'object';
  end if;
  perform hark.wake_all(channels);
  return query select d.id from pg_catalog.unnest(drawn) as d (id);
end
$$;
comment on function hark.notify_many(json) is
  'Publishes an array of {channel, payload, key, headers} in this transaction; returns their ids in order.';

-- Refuses a notification that is not valid. `place` is its place in an array, from 1. The constraint's name tells
-- programs what is wrong (src/database/server_errors.ts).
create or replace function hark.refuse(channel text, key text, headers jsonb, place bigint default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  broken text := 'channel_is_1_to_200_characters';
  said text;
  remedy text := 'Give a channel of 1 to 200 characters.';
begin
  if $1 is null or char_length($1) not between 1 and 200 then
    said := case when $1 is null then 'the channel is null'
      else format('channel %s has %s characters', hark.in_short($1), char_length($1)) end;
  elsif char_length($2) > 1000 then
    broken := 'key_is_at_most_1000_characters';
    said := format('key %s has %s characters', hark.in_short($2), char_length($2));
    remedy := 'Give a key of at most 1000 characters.';
  else
    broken := 'headers_are_an_object';
    said := format('the headers are %s, which is not an object', left($3::text, 80));
    remedy := 'Give an object, such as {"by": "shop"}, or leave them out.';
  end if;
  raise exception '%', coalesce('notification ' || $4 || ' of the array: ', '') || said
    using errcode = 'HK006', hint = remedy, schema = 'hark', table = 'log', constraint = broken;
end
$$;

-- A text in quotes, for a message: its first characters, if it is long.
create or replace function hark.in_short(value text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select to_json(left($1, 40) || case when char_length($1) > 40 then '...' else '' end)::text $$;

-- Sets the context: facts that travel with the notifications of this transaction or session, such as the
-- user, the customer or the trace. The context becomes part of their headers. A role that may not call this
-- function can SET LOCAL hark.context to the text of a JSON object.
create or replace function hark.set_context(context jsonb, for_session boolean default false) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if context is not null and jsonb_typeof(context) <> 'object' then
    raise exception 'the context is %, which is not an object', left(context::text, 80)
      using errcode = 'HK006', hint = 'Give an object, such as {"tenant": 7}, or null to remove it.';
  end if;
  perform set_config('hark.context', coalesce(context::text, ''), not coalesce(for_session, false));
end
$$;
comment on function hark.set_context(jsonb, boolean) is
  'Sets facts that travel as headers with what is published: in this transaction, or with for_session in '
  'this session. Through a transaction pooler, for_session reaches what other clients publish.';

-- The context, merged over the given headers. The parameter may have been set by hand, to anything. No write
-- fails because of that: an invalid context is left out with a warning.
create or replace function hark.with_context(headers jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  given text := current_setting('hark.context', true);
  context jsonb;
begin
  if coalesce(given, '') = '' then
    return headers;
  end if;
  begin
    context := given::jsonb;
  exception when data_exception or program_limit_exceeded or statement_too_complex then
    context := null;
  end;
  if context is null or jsonb_typeof(context) <> 'object' then
    raise warning 'hark.context is not a JSON object and is ignored: %', left(given, 80)
      using hint = 'Set it with hark.set_context.';
    return headers;
  end if;
  return coalesce(headers, '{}') || context;
end
$$;

-- The headers given to a publishing function, merged over the transaction's context (the parameter
-- hark.context, a JSON object as text).
create or replace function hark.in_context(headers jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('hark.context', true), '') = '' then
    return headers;
  end if;
  return coalesce(hark.with_context(null), '{}') || coalesce(headers, '{}');
end
$$;
