-- A trigger function for a user's own CREATE TRIGGER.

-- For triggers that a user writes, AFTER ... FOR EACH ROW. The channel is the argument; without one
-- it is "schema.table":
--   create trigger tell after insert or update or delete on users
--     for each row execute function hark.notify_data_change('users_changes');
-- The payload is that of hark.watch's "full". The function runs with Hark's rights, so it calls no user's
-- function. hark.watch publishes all rows of a statement at once and is several times cheaper.
create or replace function hark.notify_data_change() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, YMD' set intervalstyle = postgres set extra_float_digits = 1
set bytea_output = hex set array_nulls = on set standard_conforming_strings = on set jit = off
as $$
declare
  channel text := coalesce(tg_argv[0], left(format('%s.%s', tg_table_schema, tg_table_name), 200));
  head jsonb;
  before jsonb;
  after jsonb;
  key_column text;
  key text;
  is_simple boolean;
  definition jsonb;
  statement text;
begin
  if char_length(channel) not between 1 and 200 then
    raise exception 'trigger % gives hark.notify_data_change a channel of % characters', tg_name, char_length(channel)
      using errcode = 'HK006', hint = 'Create the trigger again, with a channel of 1 to 200 characters.';
  end if;
  head := jsonb_build_object('schema', tg_table_schema, 'table', tg_table_name, 'action', tg_op,
    'metadata', jsonb_build_object('user', session_user, 'role', coalesce(nullif(current_setting('role'), 'none'), session_user),
      'application', current_setting('application_name'), 'session', pg_backend_pid(),
      'transaction', pg_current_xact_id()::text));
  if tg_level = 'STATEMENT' then
    insert into hark.log (channel, payload, headers) values (channel, head || '{"id": null}', hark.with_context(null));
  else
    -- The common case: types of PostgreSQL's own, and a key of one column whose text is its value.
    select bool_and(a.atttypid < 16384 and a.atttypid <> all (array['json', '"char"', 'json[]', '"char"[]']::regtype[]::oid[])
        and a.attgenerated <> 'v'),
      (select max(k.attname::text) from pg_index i join pg_attribute k on k.attrelid = i.indrelid and k.attnum = i.indkey[0]
        where i.indrelid = tg_relid and i.indisprimary and i.indnkeyatts = 1
          and k.atttypid = any (array['int2', 'int4', 'int8', 'uuid', 'text', 'varchar']::regtype[]::oid[])
          and (k.attcollation = 0 or (select c.collisdeterministic from pg_collation c where c.oid = k.attcollation)))
    into is_simple, key_column
    from pg_attribute a where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped;
    if is_simple and key_column is not null
      and coalesce(pg_column_size(old), 0) + coalesce(pg_column_size(new), 0) < 60000
      -- A null in an array is one bit, and such bits are compressed.
      and (coalesce(pg_column_size(old), 0) + coalesce(pg_column_size(new), 0) < 4000 or not exists (
        select from pg_attribute a join pg_type t on t.oid = a.atttypid
        where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped and t.typcategory = 'A'))
    then
      before := case when tg_op <> 'INSERT' then to_jsonb(old) end;
      after := case when tg_op <> 'DELETE' then to_jsonb(new) end;
      key := coalesce(after, before) ->> key_column;
      is_simple := char_length(key) <= 1000 and (tg_op <> 'UPDATE' or before -> key_column = after -> key_column);
    else
      is_simple := false;
    end if;
    if is_simple then
      insert into hark.log (channel, key, payload, headers)
      values (channel, key, head || jsonb_build_object('id', coalesce(after, before) -> key_column)
        || case when before is null then '{}' else jsonb_build_object('old', before) end
        || case when after is null then '{}' else jsonb_build_object('new', after) end
        || case when tg_op <> 'UPDATE' then '{}' else jsonb_build_object('changed', (
            select coalesce(jsonb_agg(n.key), '[]') from jsonb_each(after) n where n.value is distinct from before -> n.key)) end,
        hark.with_context(null));
    else
      definition := jsonb_build_object('relation', tg_relid::text, 'columns', '{}'::jsonb, 'channel', channel,
        'operations', jsonb_build_array(lower(tg_op)), 'payload', 'full', 'max_bytes', 16777216, 'mode', 'row');
      foreach statement in array
        hark.watch_statements(tg_relid, definition, tg_op, '(select ($1).*)', '(select ($2).*)', '$3', '$4')
      loop
        execute statement using old, new, head, hark.with_context(null);
      end loop;
    end if;
  end if;
  perform hark.wake(channel);
  -- BEFORE and INSTEAD OF triggers go on with the returned row. So this never stops the write.
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
comment on function hark.notify_data_change() is
  'For CREATE TRIGGER ... AFTER ... FOR EACH ROW: publishes the change on the channel given as argument.';
