-- The statements with which a trigger publishes, generated from a watch's definition and its table's columns.

-- The statements that publish what an operation did to the rows that `old` and `new` give. None if the
-- watch does not cover the operation. `head` and `headers` are expressions. `facts` are the pairs that
-- `head` is made of, if they are at hand, with a place for the list of changed columns. To make a payload
-- together with its rows is faster than to add the rows to a head. Pairs come in jsonb's order of their names, and a
-- head has an "id" already, so that nothing need be sorted. `unmoved`: an UPDATE that has changed no row's key.
create or replace function hark.watch_statements(
  relation oid, definition jsonb, operation text, old text, new text, head text, headers text, facts text default null,
  unmoved boolean default false
) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  d jsonb := definition;
  payload text := d ->> 'payload';
  full_rows boolean := payload = any (array['full', 'diff']);
  cs jsonb := hark.described(relation, d);
  has_key boolean := not unmoved and jsonb_path_exists(cs, '$[*].key_place ? (@ != null)');
  by_hand boolean := jsonb_typeof(d -> 'key') = 'array';
  by_number text;
  whole_row text;
  nothing text;
  source text;
  condition text := coalesce('(' || (d ->> 'condition') || E'\n)', 'true');
  moved text := 'false';
  changed text;
  looked_at text;
  unchanged text;
  fields text;
  is_wide text;
  columns text;
  old_columns text;
  at_once boolean := facts is not null and hark.is_whole(cs);
  begin_of text := 'insert into hark.published (channel, key, payload, headers)';
  only_id boolean := not (full_rows or payload = 'new' and operation <> 'DELETE');
  whole text := case when only_id or facts is null then head || ' || jsonb_build_object(%1$s%2$s)' else 'jsonb_build_object(%1$s, ' || facts || ')' end;
  made text[] := '{}';
begin
  if not d -> 'operations' ? lower(operation) then
    return made;
  end if;
  if d ->> 'condition' is not null then
    old := hark.without_virtual(relation, old);
    new := hark.without_virtual(relation, new);
  end if;
  if operation = 'TRUNCATE' then
    return array[format('%s values (%L, null, %s || ''{"id": null}'', %s)', begin_of, d ->> 'channel', head, headers)];
  end if;
  -- A row of nulls, without the table's name, which may change.
  nothing := format('(select r.* from (select 1) hark_one left join %s r on false)',
    case operation when 'DELETE' then old else new end);
  if operation <> 'UPDATE' then
    declare
      row_alias text := case operation when 'INSERT' then 'new' else 'old' end;
      has_row boolean := payload <> 'key' and (operation = 'INSERT' or full_rows);
    begin
      source := case operation when 'INSERT' then new else old end;
      if has_row and at_once and d ->> 'condition' is null then
        source := hark.rows_in_order(cs, source);
      end if;
      source := format('%s as %I', source, row_alias);
      if d ->> 'condition' is not null then
        source := format('%s cross join %s as %I', source, nothing, case operation when 'INSERT' then 'old' else 'new' end);
      end if;
      fields := case when only_id then hark.with_id(head, cs, row_alias, by_hand) else format(whole, format('''id'', %s%s', hark.id_value(cs, row_alias, by_hand),
        case when has_row then format(', %L, %s', row_alias,
          case when at_once then format('%I.*', row_alias) else hark.row_value(cs, row_alias, true) end) else '' end), '') end;
      if has_row then
        fields := format('case when %s then %s || jsonb_build_object(''id'', %s, ''truncated'', true) else %s end',
          hark.is_wide(cs, d ->> 'max_bytes', array[row_alias]), head, hark.id_value(cs, row_alias, by_hand), fields);
      end if;
      return array[format('%s select %L, %s, %s, %s from %s where %s', begin_of, d ->> 'channel',
        hark.key_value(cs, row_alias), fields, headers, source, condition)];
    end;
  end if;

  -- An UPDATE. Old and new rows come in the same order in the two transition tables. PostgreSQL does not
  -- document this. Tests check it for updates of keys, moves between partitions and MERGE.
  if d ->> 'mode' = 'statement' then
    by_number := 'hark_n';
    while exists (select from hark.columns_in(cs) c where c.name = by_number) loop
      by_number := by_number || '_';
    end loop;
    whole_row := by_number || 'r';
    while exists (select from hark.columns_in(cs) c where c.name = whole_row) loop
      whole_row := whole_row || '_';
    end loop;
    at_once := at_once and payload <> 'key';
    if at_once then
      old := hark.rows_in_order(cs, old);
      new := hark.rows_in_order(cs, new);
    end if;
    source := format(
      '(select row_number() over () as %3$I, %5$I.*%4$s from %1$s %5$I) as old join '
      '(select row_number() over () as %3$I, %5$I.*%4$s from %2$s %5$I) as new on new.%3$I = old.%3$I', old, new, by_number,
      case when at_once then format(', %1$I as %1$I', whole_row) end, whole_row);
  else
    at_once := false;
    source := format('%s as old cross join %s as new', old, new);
  end if;
  -- As an argument of jsonb_build_object, which makes an object of a row faster than it copies one.
  old_columns := case when at_once then format('old.%I', whole_row) else hark.row_value(cs, 'old', false) end;
  columns := case when at_once then format('new.%I', whole_row) else hark.row_value(cs, 'new', false) end;
  select coalesce(string_agg(k.differs, ' or ') filter (where k.key_place is not null), 'false'),
    string_agg(k.differs, ' or ') filter (where k.looked_at),
    format('to_jsonb(array_remove(array[%s]::text[], null))',
      string_agg(format('case when %s then %L end', k.differs, k.name), ', ') filter (where k.included)),
    format('array_remove(array[%s]::text[], null)',
      string_agg(format('case when %s then null else %L end', k.differs, k.name), ', ') filter (where k.included))
  into moved, looked_at, changed, unchanged
  from (
    select c.name, c.included, c.key_place, c.looked_at, c.differs from hark.columns_in(cs) c order by c.place
  ) k (name, included, key_place, looked_at, differs);
  if unmoved then
    moved := 'false';
  elsif moved <> 'false' then
    -- Equal values have the same key. So first compare the values, then the keys.
    moved := format('((%s) and %s <> %s)', moved, hark.key_value(cs, 'old'), hark.key_value(cs, 'new'));
    if by_hand then
      moved := format('((%s) is distinct from (%s))', hark.key_value(cs, 'old'), hark.key_value(cs, 'new'));
    end if;
  end if;
  if jsonb_typeof(d -> 'if_changed') = 'array' then
    -- If the columns to compare are gone, every update counts.
    condition := format('%s and (%s or %s)', condition, coalesce(looked_at, 'true'), moved);
  end if;
  is_wide := format('(%s)', hark.is_wide(cs, d ->> 'max_bytes', case when full_rows then array['old', 'new'] else array['new'] end));
  if has_key then
    -- Every row that leaves a key comes before any row that takes it: UPDATE ... SET id = id + 1.
    made := made || format('%s select %L, %s, %s || %s, %s from %s where %s and %s', begin_of, d ->> 'channel',
      hark.key_value(cs, 'old'), head,
      '''{"action": "DELETE", "moved": true}''::jsonb || ' || case when full_rows
        then format('case when %1$s then jsonb_build_object(''id'', %2$s, ''truncated'', true) '
          'else jsonb_build_object(''id'', %2$s, ''old'', %3$s) end',
          hark.is_wide(cs, d ->> 'max_bytes', array['old']), hark.id_value(cs, 'old', by_hand), old_columns)
        else format('jsonb_build_object(''id'', %s)', hark.id_value(cs, 'old', by_hand)) end,
      headers, source, condition, moved);
  end if;
  fields := format('''id'', %s', hark.id_value(cs, 'new', by_hand));
  fields := case when only_id then hark.with_id(head, cs, 'new', by_hand) else format(whole, case payload
    when 'new' then format('%s, ''new'', %s', fields, columns)
    when 'full' then format('%s, ''new'', %s, ''old'', %s', fields, columns, old_columns)
    else format('%1$s, ''new'', (%3$s) - %4$s, ''old'', (%2$s) - %4$s', fields,
      case when at_once then format('to_jsonb(%s)', old_columns) else old_columns end,
      case when at_once then format('to_jsonb(%s)', columns) else columns end, coalesce(unchanged, '''{}''::text[]'))
  end, case when full_rows then format(', ''changed'', %s', coalesce(changed, '''[]''::jsonb')) else '' end) end;
  if has_key then
    fields := format('case when %s then %s || ''{"action": "INSERT", "moved": true}''::jsonb || jsonb_build_object(''id'', %s%s) '
      'else %s end', moved, head, hark.id_value(cs, 'new', by_hand),
      case when payload = 'key' then '' else format(', ''new'', %s', columns) end, fields);
  end if;
  if payload <> 'key' then
    fields := format('case when %s then %s || %s || jsonb_build_object(''id'', %s, ''truncated'', true) else %s end', is_wide, head,
      case when has_key then format('case when %s then ''{"action": "INSERT", "moved": true}''::jsonb else ''{}'' end', moved)
        else '''{}''::jsonb' end,
      hark.id_value(cs, 'new', by_hand), fields);
  end if;
  return made || format('%s select %L, %s, %s, %s from %s where %s', begin_of, d ->> 'channel',
    hark.key_value(cs, 'new'), fields, headers, source, condition);
end
$$;
