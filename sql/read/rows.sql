-- What a reader is given of a row: its partition, whether it passes a filter, and its contents as text.

-- The partition that a notification belongs to. One key always maps to one partition; null keys
-- have no order. Not a digest: a FIPS server has no md5(), and sha256() takes several times as long, for each row
-- that a reader passes.
create or replace function hark.partition_of(key text, id bigint, partitions integer) returns integer
language sql immutable
as $$
  select case when $3 operator(pg_catalog.=) 1 then 0 else (
    case when $1 is null then $2
      else pg_catalog.hashtextextended($1 collate pg_catalog."C", 0) operator(pg_catalog.&) 9223372036854775807
    end operator(pg_catalog.%) $3)::pg_catalog.int4
  end
$$;
comment on function hark.partition_of(text, bigint, integer) is
  'The partition of a key: PostgreSQL''s hash of it, without the sign, modulo the number of partitions.';

-- Whether a notification passes a consumer's filter: {"payload": ..., "headers": ..., "key": ["a", "b"]}.
-- Payload and headers are compared by containment (jsonb @>). A filter holds paths and values, never SQL.
create or replace function hark.matches(filter jsonb, key text, payload jsonb, headers jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select ($1 -> 'payload' is null or $3 @> ($1 -> 'payload'))
    and ($1 -> 'headers' is null or coalesce($4, '{}') @> ($1 -> 'headers'))
    and ($1 -> 'key' is null or coalesce(($1 -> 'key') ? $2, false))
$$;

-- As hark.matches. A notification that cannot be compared passes, so that its reader finds it and gives it up.
create or replace function hark.may_match(filter jsonb, key text, payload jsonb, headers jsonb) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return hark.matches($1, $2, $3, $4);
exception when others then
  if not hark.is_of_a_value(sqlstate) then
    raise;
  end if;
  return true;
end
$$;

-- Whether an error is about the value that was read, not about the server or the session: bytes that are no
-- text (22), a limit of PostgreSQL (54), stored bytes that are damaged (XX).
create or replace function hark.is_of_a_value(state text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select left($1, 2) in ('22', '54', 'XX') $$;

-- Whether text has to be converted for a reader, which is always UTF-8. A database of the encoding SQL_ASCII
-- may hold bytes that are no UTF-8. Some encodings have characters that UTF-8 has not.
create or replace function hark.is_converted() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select getdatabaseencoding() <> 'UTF8' $$;

-- Text that every reader can receive: the text itself. If it cannot be converted to UTF-8, its bytes with
-- those above 127 in octal.
create or replace function hark.sendable(value text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if hark.is_converted() then
    perform convert_to(value, 'UTF8');
  end if;
  return value;
exception when character_not_in_repertoire or untranslatable_character then
  return encode(convert_to(value, getdatabaseencoding()), 'escape');
end
$$;

-- The contents of a notification as text, or why they cannot be read.
--
-- The limits keep a reader from asking for what it never gets: PostgreSQL cannot write out more than 1 GB, and
-- JavaScript cannot hold more than 512 MB in one text. What cannot be read becomes a dead letter. So one such
-- row never ends its reader.
create or replace function hark.contents(
  payload jsonb, headers jsonb, out payload_text text, out headers_text text, out problem text
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- Measure values built here: the stored ones may be compressed, at most to a 255th.
  if pg_column_size(payload) > 100000 and pg_column_size(jsonb_build_array(payload)) > 67108864 then
    problem := 'its payload is over 64 MB';
  elsif pg_column_size(headers) > 100000 and pg_column_size(jsonb_build_array(headers)) > 67108864 then
    problem := 'its headers are over 64 MB';
  else
    payload_text := payload::text;
    headers_text := headers::text;
    if coalesce(octet_length(payload_text), 0) + coalesce(octet_length(headers_text), 0) > 268435456 then
      problem := 'its payload and headers are over 256 MB as text';
    elsif hark.is_converted() then
      perform convert_to(payload_text, 'UTF8'), convert_to(headers_text, 'UTF8');
    end if;
  end if;
  if problem is not null then
    payload_text := null;
    headers_text := null;
  end if;
exception when others then
  if not hark.is_of_a_value(sqlstate) then
    raise;
  end if;
  payload_text := null;
  headers_text := null;
  problem := hark.sendable(sqlerrm) || ' (' || sqlstate || ')';
end
$$;
