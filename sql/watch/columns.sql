-- Which columns of a watched table a trigger names, and the expressions that give their values.

-- The numbers of columns that a definition lists by name. If the table is the one that was watched,
-- columns are followed through renaming. If such a column is gone, and in a restored copy, which has
-- other numbers, names count. With `either` both count: a column to be left out stays out under its name
-- and under its number. A virtual generated column (PostgreSQL 18) has no value in a trigger, so it counts as gone.
create or replace function hark.listed(relation oid, definition jsonb, names text[], either boolean default false) returns smallint[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct_ones.attnum order by distinct_ones.place), '{}')
  from (
    select a.attnum, min(n.place) as place
    from unnest($3) with ordinality n (name, place)
    left join lateral (
      select min(c.attnum) as attnum
      from jsonb_each_text(case when $2 ->> 'relation' = $1::text then $2 -> 'columns' else '{}' end) k
      join pg_attribute c on c.attrelid = $1 and c.attnum = k.key::smallint and not c.attisdropped
      where k.value = n.name
    ) followed on true
    join pg_attribute a on a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
      and (a.attnum = followed.attnum or a.attname = n.name and ($4 or followed.attnum is null))
      and ($4 or a.attgenerated <> 'v')
    group by a.attnum
  ) distinct_ones
$$;

create or replace function hark.key_columns(relation oid, definition jsonb) returns smallint[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof($2 -> 'key') = 'array' then
      hark.listed($1, $2, array(select k.name from jsonb_array_elements_text($2 -> 'key') k (name)))
    else coalesce((select array_agg(k.attnum order by k.place) from pg_index i
      cross join lateral unnest(i.indkey::smallint[]) with ordinality k (attnum, place)
      where i.indrelid = $1 and i.indisprimary), '{}')
  end
$$;

-- The rows of a table, or of a query in brackets, without the virtual generated columns. To name one in a trigger
-- fails the write, or gives null in a row trigger.
create or replace function hark.without_virtual(relation oid, rows text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when bool_or(a.attgenerated = 'v') then format('(select %s from %s hark_one)',
    string_agg(format('hark_one.%I', a.attname), ', ' order by a.attnum) filter (where a.attgenerated <> 'v'), $2) else $2 end
  from pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
$$;

-- The columns of a watch: which are in its payload, their place in its key, and which are compared for
-- changes.
create or replace function hark.watched_columns(relation oid, definition jsonb)
returns table (attnum smallint, name text, type oid, collated oid, length smallint, included boolean, key_place integer,
  looked_at boolean)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with list as materialized (
    select hark.key_columns($1, $2) as keys,
      case when jsonb_typeof($2 -> 'include') = 'array' then hark.listed($1, $2,
        array(select c.name from jsonb_array_elements_text($2 -> 'include') c (name))) end as include,
      case when jsonb_typeof($2 -> 'exclude') = 'array' then hark.listed($1, $2,
        array(select c.name from jsonb_array_elements_text($2 -> 'exclude') c (name)), true) end as exclude,
      case when jsonb_typeof($2 -> 'if_changed') = 'array' then hark.listed($1, $2,
        array(select c.name from jsonb_array_elements_text($2 -> 'if_changed') c (name))) end as looked_at
  )
  select a.attnum, a.attname::text, a.atttypid, a.attcollation, a.attlen, i.included,
    array_position(l.keys, a.attnum),
    case when $2 -> 'if_changed' = '["*"]' then i.included else coalesce(a.attnum = any (l.looked_at), false) end
  from list l
  join pg_attribute a on a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
  cross join lateral (
    select a.attgenerated <> 'v' and coalesce(a.attnum = any (l.include), a.attnum <> all (l.exclude), true)
      -- In a restored copy, a column with an unknown name may be one that was to be left out.
      and (l.exclude is null or $2 ->> 'relation' = $1::text
        or exists (select from jsonb_each_text($2 -> 'columns') k where k.value = a.attname))
  ) i (included)
  order by a.attnum
$$;

-- The same columns, once for all parts of a statement, with the expressions that depend only on a column's
-- type. These are made once for each type, as that takes a while. The placeholders for the columns in a
-- comparison are longer than any name, so that no name contains them.
create or replace function hark.described(relation oid, definition jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with columns as materialized (
    select * from hark.watched_columns($1, $2)
  ),
  kinds as materialized (
    select k.type, k.collated, p.plain, b.typtype = 'c' or b.typelem <> 0 and b.typlen = -1 as nested, hark.size_of('%1$s', k.type) as size,
      case when p.plain then hark.as_base('%1$s', k.type) else hark.value_of('%1$s', k.type) end as argument,
      hark.differs(repeat('o', 64), repeat('n', 64), k.type, k.collated) as differs
    from (select distinct c.type, c.collated from columns c) k
    cross join lateral (select hark.is_plain(k.type)) p (plain)
    join pg_type b on b.oid = hark.base_type(k.type)
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', c.name, 'type', c.type, 'length', c.length, 'included', c.included,
    'key_place', c.key_place, 'looked_at', c.looked_at, 'plain', k.plain, 'nested', k.nested, 'argument', k.argument,
    'key', case when c.key_place is not null then hark.key_text('%1$s', c.type, c.collated) end,
    'differs', replace(replace(k.differs, repeat('o', 64), format('old.%I', c.name)), repeat('n', 64), format('new.%I', c.name)),
    'size', k.size) order by c.attnum), '[]')
  from columns c
  join kinds k on k.type = c.type and k.collated = c.collated
$$;

create or replace function hark.columns_in(described jsonb)
returns table (name text, type oid, length smallint, included boolean, key_place integer, looked_at boolean,
  plain boolean, nested boolean, argument text, key text, differs text, size text, place bigint)
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select c.* from rows from (jsonb_to_recordset($1) as (name text, type oid, length smallint, included boolean,
    key_place integer, looked_at boolean, plain boolean, nested boolean, argument text, key text, differs text, size text))
    with ordinality c
$$;

-- A number that stands for what a watch's statements depend on: names, types and collations of the table's
-- columns, and of the composite types among them. A trigger compares it at each statement. So it is cheap,
-- and does not depend on the order of columns.
create or replace function hark.shape_query(relations text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select format('select bit_xor(hashtextextended(a.attname::text || '' '' || a.atttypid::text || '' '' || '
    'a.attcollation::text || '' '' || a.attgenerated::text, 0)) from pg_attribute a '
    'where a.attrelid = %s and a.attnum > 0 and not a.attisdropped', $1)
$$;

create or replace function hark.composites_of(relation oid) returns oid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with recursive inner_ones (relation) as (
    select $1
    union
    select t.typrelid
    from inner_ones i
    join pg_attribute a on a.attrelid = i.relation and a.attnum > 0 and not a.attisdropped
    join pg_type b on b.oid = hark.base_type(a.atttypid)
    left join pg_type e on e.oid = b.typelem and e.typarray = b.oid
    join pg_type t on t.oid = case when e.oid is null then b.oid else hark.base_type(e.oid) end and t.typtype = 'c'
  )
  select array_agg(i.relation order by i.relation = $1 desc, i.relation) from inner_ones i
$$;

-- A column of the old or the new row, in an expression of hark.described.
create or replace function hark.in_row(expression text, alias text, name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select replace($1, '%1$s', format('%I.%I', $2, $3)) $$;

-- The columns in the order in which jsonb stores their names. An object that is built in another order is sorted first:
-- for payload "full" that was a seventh of all that a trigger executes.
create or replace function hark.in_order(described jsonb)
returns table (name text, argument text, included boolean, plain boolean, place bigint)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select c.name, c.argument, c.included, c.plain, row_number() over (order by octet_length(c.name), c.name collate "C")
  from hark.columns_in($1) c
$$;

-- `rows`, a table or a query in brackets, with the columns in this order.
create or replace function hark.rows_in_order(described jsonb, rows text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('(select %s from %s hark_one)', string_agg(format('hark_one.%I', c.name), ', ' order by c.place), $2)
  from hark.in_order($1) c
$$;

create or replace function hark.row_value(described jsonb, alias text, as_a_whole boolean) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- A function takes at most 100 arguments.
  select case
    when $3 and bool_and(part.all_plain) then format('to_jsonb(%I.*)', $2)
    else coalesce(string_agg(format('jsonb_build_object(%s)', part.pairs), ' || ' order by part.number), '''{}''::jsonb')
  end
  from (
    select (c.place - 1) / 45,
      string_agg(format('%L, %s', c.name, hark.in_row(c.argument, $2, c.name)), ', ' order by c.place) filter (where c.included),
      bool_and(c.included and c.plain)
    from hark.in_order($1) c
    group by 1
  ) part (number, pairs, all_plain)
  where part.pairs is not null or $3
$$;

-- Whether a row, as jsonb_build_object would make it, is what the watch publishes.
create or replace function hark.is_whole(described jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select coalesce(bool_and(c.included and c.plain), false) from hark.columns_in($1) c $$;

create or replace function hark.id_value(described jsonb, alias text, by_hand boolean) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- As an argument of jsonb_build_object. Columns chosen by hand may be of any size; an index bounds those of
  -- a primary key.
  select case when bool_or(c.length < 0) and $3
    then format('case when %s > 8000 then null else to_jsonb(%s) end',
      string_agg(format('coalesce(pg_column_size(%I.%I), 0)', $2, c.name), ' + '), max(v.value))
    else coalesce(max(v.value), 'null') end
  from hark.columns_in($1) c
  cross join (
    select case count(*)
      when 0 then null
      when 1 then max(hark.in_row(k.argument, $2, k.name))
      else format('jsonb_build_object(%s)',
        string_agg(format('%L, %s', k.name, hark.in_row(k.argument, $2, k.name)), ', ' order by k.key_place))
    end
    from hark.columns_in($1) k where k.key_place is not null
  ) v (value)
  where c.key_place is not null
$$;

-- A payload of which only the id differs from row to row. To set one value is faster than to join two objects.
create or replace function hark.with_id(head text, described jsonb, alias text, by_hand boolean) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when v.value = 'null' then format('%s || ''{"id": null}''', $1)
    else format('jsonb_set(%s, ''{id}'', coalesce(to_jsonb(%s), ''null''))', $1, v.value) end
  from (select hark.id_value($2, $3, $4)) v (value)
$$;

-- The condition that an UPDATE has changed a row's key, by two transition tables, whose rows come in one order. Above
-- a number of rows it is true, so that the lists stay small. Null without a key.
create or replace function hark.keys_differ(described jsonb, old text, new text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('exists (select from %1$s offset %2$s) or %3$s is distinct from %4$s', $3, k.most,
    format('(select array_agg(%s) from %s as old)', k.old_key, $2), format('(select array_agg(%s) from %s as new)', k.new_key, $3))
  from (
    select case when v.is_fixed then 100000 else 10000 end,
      case when v.is_fixed then format('old.%I', v.name) else hark.key_value($1, 'old') end,
      case when v.is_fixed then format('new.%I', v.name) else hark.key_value($1, 'new') end
    from (
      -- A column that is compared by its operator, and has no other text for an equal value.
      select count(*) = 1 and bool_and(c.length > 0 and strpos(c.differs, ' is distinct from ') > 0) as is_fixed, max(c.name) as name
      from hark.columns_in($1) c where c.key_place is not null
      having count(*) > 0
    ) v
  ) k (most, old_key, new_key)
$$;

-- The key of the notification. If it is over 1,000 characters, its beginning and a digest. A FIPS server has no md5().
create or replace function hark.key_value(described jsonb, alias text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case
    when v.count = 0 then 'null::text'
    when v.fixed then x.text
    else format('case when char_length(%1$s) > 1000 then left(%1$s, 900) || ''#'' || encode(sha256(convert_to(%1$s, getdatabaseencoding())), ''hex'') else %1$s end', x.text)
  end
  from (
    select count(*), bool_and(k.length > 0), string_agg(hark.in_row(k.key, $2, k.name), ', ' order by k.key_place)
    from hark.columns_in($1) k where k.key_place is not null
  ) v (count, fixed, texts)
  cross join lateral (
    select case when v.count = 1 then v.texts else format('jsonb_build_array(%s)::text', v.texts) end
  ) x (text)
$$;

-- The condition that rows would make a payload of over max_bytes. A value that is stored compressed may be
-- 256 times as large, so the first test looks only at stored sizes. A null in an array is one bit, and such
-- bits are compressed as well.
create or replace function hark.is_wide(described jsonb, max_bytes text, aliases text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select case when w.stored is null then 'false'
    else format('case when %4$s > %1$s / 256 then %2$s > %1$s or %3$s > %1$s else false end', $2, w.stored, w.made, w.unpacked) end
  from (
    select string_agg(format('coalesce(pg_column_size(%I.%I), 0)::bigint', a.alias, c.name), ' + ') filter (where c.length < 0),
      string_agg(format('coalesce(pg_column_size(%I.%I), 0)::bigint%s', a.alias, c.name, case when c.nested then ' * 64' end), ' + ') filter (where c.length < 0),
      string_agg(hark.in_row(c.size, a.alias, c.name), ' + ')
    from hark.columns_in($1) c
    cross join unnest($3) a (alias)
    where c.included
  ) w (stored, unpacked, made)
$$;
