package azuresim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// kqlType is the name of a Kusto type, as the query API writes it.
type kqlType string

const (
	typeString   kqlType = "string"
	typeLong     kqlType = "long"
	typeReal     kqlType = "real"
	typeBool     kqlType = "bool"
	typeDatetime kqlType = "datetime"
	typeTimespan kqlType = "timespan"
	typeGUID     kqlType = "guid"
)

type column struct {
	name string
	kind kqlType
}

// relation is a table on its way through the pipes. A nil cell is null.
type relation struct {
	columns []column
	rows    [][]any
}

// table is the relation as the query API answers it.
func (r relation) table() map[string]any {
	columns := []map[string]string{}
	for _, c := range r.columns {
		columns = append(columns, map[string]string{"name": c.name, "type": string(c.kind)})
	}
	rows := make([][]any, 0, len(r.rows))
	for _, cells := range r.rows {
		out := make([]any, len(cells))
		for i, v := range cells {
			switch v := v.(type) {
			case time.Time:
				out[i] = v.Format("2006-01-02T15:04:05.9999999Z")
			case time.Duration:
				out[i] = v.String()
			default:
				out[i] = v
			}
		}
		rows = append(rows, out)
	}
	return map[string]any{"name": "PrimaryResult", "columns": columns, "rows": rows}
}

// compiled is an expression whose names and types are resolved.
type compiled struct {
	kind kqlType
	name string // of the column that it is, for project without a name
	eval func(row []any) any
}

// scope resolves names of one relation.
type scope struct {
	columns  []column
	operator string
	now      time.Time
}

// eval pipes the relation through the query's steps.
func (q *kqlQuery) eval(rel relation, now time.Time) (relation, error) {
	for _, step := range q.steps {
		var err error
		if rel, err = step.eval(rel, now); err != nil {
			return relation{}, err
		}
	}
	return rel, nil
}

func (st *kqlStep) eval(rel relation, now time.Time) (relation, error) {
	sc := &scope{columns: rel.columns, operator: st.operator, now: now}
	switch st.operator {
	case "where":
		return st.where(rel, sc)
	case "extend", "project":
		return st.extend(rel, sc)
	case "sort":
		return rel, st.sort(rel, sc)
	case "take":
		n, err := st.count()
		if err != nil {
			return rel, err
		}
		rel.rows = rel.rows[:min(n, len(rel.rows))]
		return rel, nil
	case "top":
		n, err := st.count()
		if err != nil {
			return rel, err
		}
		if err := st.sort(rel, sc); err != nil {
			return rel, err
		}
		rel.rows = rel.rows[:min(n, len(rel.rows))]
		return rel, nil
	}
	// count
	return relation{columns: []column{{"Count", typeLong}}, rows: [][]any{{int64(len(rel.rows))}}}, nil
}

func (st *kqlStep) where(rel relation, sc *scope) (relation, error) {
	c, err := sc.compile(st.exprs[0].expr)
	if err != nil {
		return rel, err
	}
	if c.kind != typeBool {
		return rel, semantic("SEM0061", "'where' operator: expected a boolean expression, got %s", c.kind)
	}
	out := relation{columns: rel.columns}
	for _, row := range rel.rows {
		if c.eval(row) == true {
			out.rows = append(out.rows, row)
		}
	}
	return out, nil
}

func (st *kqlStep) extend(rel relation, sc *scope) (relation, error) {
	out := relation{}
	var cells []compiled
	if st.operator == "extend" {
		for i, c := range rel.columns {
			out.columns = append(out.columns, c)
			cells = append(cells, compiled{kind: c.kind, eval: func(row []any) any { return row[i] }})
		}
	}
	for i, e := range st.exprs {
		c, err := sc.compile(e.expr)
		if err != nil {
			return rel, err
		}
		name := e.name
		if name == "" {
			name = c.name
		}
		if name == "" {
			name = fmt.Sprintf("Column%d", i+1)
		}
		if old := slices.IndexFunc(out.columns, func(o column) bool { return o.name == name }); old >= 0 {
			if st.operator == "project" {
				return rel, semantic("SEM0017", "'project' operator: a column named '%s' is given twice", name)
			}
			out.columns[old], cells[old] = column{name, c.kind}, c
			continue
		}
		out.columns = append(out.columns, column{name, c.kind})
		cells = append(cells, c)
	}
	for _, row := range rel.rows {
		next := make([]any, len(cells))
		for i, c := range cells {
			next[i] = c.eval(row)
		}
		out.rows = append(out.rows, next)
	}
	return out, nil
}

func (st *kqlStep) sort(rel relation, sc *scope) error {
	keys := make([]compiled, len(st.keys))
	for i, k := range st.keys {
		c, err := sc.compile(k.expr)
		if err != nil {
			return err
		}
		keys[i] = c
	}
	slices.SortStableFunc(rel.rows, func(a, b []any) int {
		for i, k := range st.keys {
			x, y := keys[i].eval(a), keys[i].eval(b)
			switch {
			case x == nil && y == nil:
				continue
			case x == nil || y == nil:
				if (x == nil) == k.nullsFirst {
					return -1
				}
				return 1
			}
			c := compareValues(x, y)
			if k.descending {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	return nil
}

func (st *kqlStep) count() (int, error) {
	n, ok := st.limit.literal.(int64)
	if st.limit.op != "literal" || !ok {
		return 0, semantic("SEM0044", "'%s' operator: expected a literal number of rows", st.operator)
	}
	return int(min(n, rowsKept)), nil
}

// compareValues orders two values of one type. Numbers of both types compare as reals.
func compareValues(a, b any) int {
	switch x := a.(type) {
	case string:
		return strings.Compare(x, b.(string))
	case time.Time:
		return x.Compare(b.(time.Time))
	case time.Duration:
		return cmp.Compare(x, b.(time.Duration))
	case bool:
		y := b.(bool)
		switch {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	}
	return cmp.Compare(asReal(a), asReal(b))
}

func asReal(v any) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

func isNumber(k kqlType) bool { return k == typeLong || k == typeReal }

// comparable tells whether Kusto compares the two types without a cast.
func comparableTypes(a, b kqlType) bool {
	return a == b || isNumber(a) && isNumber(b) || a == typeGUID && b == typeString || a == typeString && b == typeGUID
}

func (sc *scope) compile(e kqlExpr) (compiled, error) {
	switch e.op {
	case "literal":
		return literal(e.literal), nil
	case "column":
		for i, c := range sc.columns {
			if c.name == e.name {
				return compiled{kind: c.kind, name: c.name, eval: func(row []any) any { return row[i] }}, nil
			}
		}
		return compiled{}, semantic("SEM0100", "'%s' operator: Failed to resolve column or scalar expression named '%s'", sc.operator, e.name)
	case "call":
		return sc.call(e)
	}
	args := make([]compiled, len(e.args))
	for i, a := range e.args {
		c, err := sc.compile(a)
		if err != nil {
			return compiled{}, err
		}
		args[i] = c
	}
	switch e.op {
	case "and", "or":
		return sc.logical(e.op, args)
	case "+", "-":
		return sc.arithmetic(e.op, args[0], args[1])
	case "in", "!in", "in~", "!in~":
		return sc.membership(e.op, args)
	case "==", "!=", "<", "<=", ">", ">=":
		return sc.compare(e.op, args[0], args[1])
	}
	return sc.textual(e.op, args[0], args[1])
}

func literal(v any) compiled {
	kind := typeString
	switch v.(type) {
	case int64:
		kind = typeLong
	case float64:
		kind = typeReal
	case bool:
		kind = typeBool
	case time.Time:
		kind = typeDatetime
	case nullDatetime:
		kind, v = typeDatetime, nil
	case time.Duration:
		kind = typeTimespan
	}
	return compiled{kind: kind, eval: func([]any) any { return v }}
}

func (sc *scope) logical(op string, args []compiled) (compiled, error) {
	for _, a := range args {
		if a.kind != typeBool {
			return compiled{}, semantic("SEM0064", "'%s' operator: '%s' expects boolean operands, got %s", sc.operator, op, a.kind)
		}
	}
	return compiled{kind: typeBool, eval: func(row []any) any {
		x := args[0].eval(row) == true
		if op == "and" {
			return x && args[1].eval(row) == true
		}
		return x || args[1].eval(row) == true
	}}, nil
}

func (sc *scope) compare(op string, a, b compiled) (compiled, error) {
	if !comparableTypes(a.kind, b.kind) {
		return compiled{}, semantic("SEM0064", "'%s' operator: Cannot compare values of types %s and %s. Try adding explicit casts", sc.operator, a.kind, b.kind)
	}
	return compiled{kind: typeBool, eval: func(row []any) any {
		x, y := a.eval(row), b.eval(row)
		if x == nil || y == nil { // null equals nothing; only != is true of it
			return op == "!=" && (x == nil) != (y == nil)
		}
		c := compareValues(x, y)
		switch op {
		case "==":
			return c == 0
		case "!=":
			return c != 0
		case "<":
			return c < 0
		case "<=":
			return c <= 0
		case ">":
			return c > 0
		}
		return c >= 0
	}}, nil
}

// textual compiles the operators on strings; those without _cs ignore case.
func (sc *scope) textual(op string, a, b compiled) (compiled, error) {
	name, negated := strings.CutPrefix(op, "!")
	if op == "!~" {
		name = "=~"
	}
	if a.kind != typeString && a.kind != typeGUID || b.kind != typeString {
		return compiled{}, semantic("SEM0064", "'%s' operator: '%s' expects string operands, got %s and %s", sc.operator, op, a.kind, b.kind)
	}
	base, sensitive := strings.CutSuffix(name, "_cs")
	return compiled{kind: typeBool, eval: func(row []any) any {
		x, _ := a.eval(row).(string)
		y, _ := b.eval(row).(string)
		if !sensitive {
			x, y = strings.ToLower(x), strings.ToLower(y)
		}
		var holds bool
		switch base {
		case "startswith":
			holds = strings.HasPrefix(x, y)
		case "endswith":
			holds = strings.HasSuffix(x, y)
		case "contains":
			holds = strings.Contains(x, y)
		case "has":
			holds = hasTerm(x, y)
		case "=~":
			holds = x == y
		}
		return holds != negated
	}}, nil
}

// hasTerm tells whether y stands in x between characters that are no letters or digits.
func hasTerm(x, y string) bool {
	isWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for i := 0; ; {
		j := strings.Index(x[i:], y)
		if j < 0 {
			return false
		}
		start, end := i+j, i+j+len(y)
		before, after := []rune(x[:start]), []rune(x[end:])
		if (len(before) == 0 || !isWord(before[len(before)-1])) && (len(after) == 0 || !isWord(after[0])) {
			return true
		}
		if i = start + 1; i > len(x) {
			return false
		}
	}
}

func (sc *scope) membership(op string, args []compiled) (compiled, error) {
	name, negated := strings.CutPrefix(op, "!")
	fold := strings.HasSuffix(name, "~")
	for _, a := range args[1:] {
		if !comparableTypes(args[0].kind, a.kind) {
			return compiled{}, semantic("SEM0064", "'%s' operator: Cannot compare values of types %s and %s. Try adding explicit casts", sc.operator, args[0].kind, a.kind)
		}
	}
	return compiled{kind: typeBool, eval: func(row []any) any {
		x := args[0].eval(row)
		for _, a := range args[1:] {
			y := a.eval(row)
			if x == nil || y == nil {
				continue
			}
			s, isString := x.(string)
			if t, ok := y.(string); fold && isString && ok && strings.EqualFold(s, t) || compareValues(x, y) == 0 {
				return !negated
			}
		}
		return negated
	}}, nil
}

func (sc *scope) arithmetic(op string, a, b compiled) (compiled, error) {
	sign := int64(1)
	if op == "-" {
		sign = -1
	}
	whole := func(kind kqlType, f func(x, y any) any) (compiled, error) {
		return compiled{kind: kind, eval: func(row []any) any {
			x, y := a.eval(row), b.eval(row)
			if x == nil || y == nil {
				return nil
			}
			return f(x, y)
		}}, nil
	}
	switch {
	case a.kind == typeLong && b.kind == typeLong:
		return whole(typeLong, func(x, y any) any { return x.(int64) + sign*y.(int64) })
	case isNumber(a.kind) && isNumber(b.kind):
		return whole(typeReal, func(x, y any) any { return asReal(x) + float64(sign)*asReal(y) })
	case a.kind == typeDatetime && b.kind == typeTimespan:
		return whole(typeDatetime, func(x, y any) any { return x.(time.Time).Add(time.Duration(sign) * y.(time.Duration)) })
	case a.kind == typeDatetime && b.kind == typeDatetime && op == "-":
		return whole(typeTimespan, func(x, y any) any { return x.(time.Time).Sub(y.(time.Time)) })
	case a.kind == typeTimespan && b.kind == typeTimespan:
		return whole(typeTimespan, func(x, y any) any { return x.(time.Duration) + time.Duration(sign)*y.(time.Duration) })
	}
	return compiled{}, semantic("SEM0064", "'%s' operator: '%s' is not defined for %s and %s", sc.operator, op, a.kind, b.kind)
}

// call compiles a function of the ones that the simulator knows.
func (sc *scope) call(e kqlExpr) (compiled, error) {
	if e.name == "column_ifexists" || e.name == "columnifexists" {
		return sc.columnIfExists(e)
	}
	args := make([]compiled, len(e.args))
	for i, a := range e.args {
		c, err := sc.compile(a)
		if err != nil {
			return compiled{}, err
		}
		args[i] = c
	}
	want := func(n int) error {
		if len(args) != n {
			return semantic("SEM0219", "%s(): function expects %d argument(s).", e.name, n)
		}
		return nil
	}
	switch e.name {
	case "now":
		return literal(ticks(sc.now)), want(0)
	case "ago":
		if err := want(1); err != nil {
			return compiled{}, err
		}
		if args[0].kind != typeTimespan {
			return compiled{}, semantic("SEM0064", "ago(): argument #1 expected to be a timespan, got %s", args[0].kind)
		}
		return compiled{kind: typeDatetime, eval: func(row []any) any { return ticks(sc.now.Add(-args[0].eval(row).(time.Duration))) }}, nil
	case "not":
		if err := want(1); err != nil {
			return compiled{}, err
		}
		if args[0].kind != typeBool {
			return compiled{}, semantic("SEM0064", "not(): argument #1 expected to be a bool, got %s", args[0].kind)
		}
		return compiled{kind: typeBool, eval: func(row []any) any { return args[0].eval(row) != true }}, nil
	case "isempty", "isnotempty", "isnull", "isnotnull":
		if err := want(1); err != nil {
			return compiled{}, err
		}
		negated := strings.HasPrefix(e.name, "isnot")
		nullOnly := strings.HasSuffix(e.name, "null")
		return compiled{kind: typeBool, eval: func(row []any) any {
			v := args[0].eval(row)
			empty := v == nil || !nullOnly && v == ""
			return empty != negated
		}}, nil
	case "tostring":
		if err := want(1); err != nil {
			return compiled{}, err
		}
		return compiled{kind: typeString, eval: func(row []any) any { return text(args[0].eval(row)) }}, nil
	case "todatetime":
		if err := want(1); err != nil {
			return compiled{}, err
		}
		return compiled{kind: typeDatetime, eval: func(row []any) any {
			switch v := args[0].eval(row).(type) {
			case time.Time:
				return v
			case string:
				if t, ok := parseDatetime(v); ok {
					return t
				}
			}
			return nil
		}}, nil
	case "coalesce":
		if len(args) < 2 {
			return compiled{}, semantic("SEM0219", "coalesce(): function expects at least 2 arguments.")
		}
		for _, a := range args[1:] {
			if a.kind != args[0].kind {
				return compiled{}, semantic("SEM0064", "coalesce(): arguments must be of one type, got %s and %s", args[0].kind, a.kind)
			}
		}
		return compiled{kind: args[0].kind, eval: func(row []any) any {
			for _, a := range args {
				if v := a.eval(row); v != nil && v != "" {
					return v
				}
			}
			return nil
		}}, nil
	}
	return compiled{}, semantic("SEM0260", "Unknown function: '%s'.", e.name)
}

// columnIfExists is the column of that name if the table has it, else the second argument.
func (sc *scope) columnIfExists(e kqlExpr) (compiled, error) {
	if len(e.args) != 2 {
		return compiled{}, semantic("SEM0219", "%s(): function expects 2 argument(s).", e.name)
	}
	name, ok := e.args[0].literal.(string)
	if e.args[0].op != "literal" || !ok {
		return compiled{}, semantic("SEM0044", "%s(): argument #1 expected to be a string literal", e.name)
	}
	if slices.ContainsFunc(sc.columns, func(c column) bool { return c.name == name }) {
		return sc.compile(kqlExpr{op: "column", name: name})
	}
	c, err := sc.compile(e.args[1])
	c.name = name
	return c, err
}

// text is tostring(): null is the empty string.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case time.Time:
		return v.Format("2006-01-02T15:04:05.0000000Z")
	}
	return fmt.Sprint(v)
}
