package azuresim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// kqlQuery is a parsed query: a table and what its rows are piped through.
type kqlQuery struct {
	table string
	steps []kqlStep
}

// kqlStep is one operator after a pipe.
type kqlStep struct {
	operator string      // where, extend, project, sort, take, top, count
	exprs    []namedExpr // of where (one), extend and project
	keys     []sortKey   // of sort and top
	limit    kqlExpr     // of take and top
}

type namedExpr struct {
	name string
	expr kqlExpr
}

type sortKey struct {
	expr       kqlExpr
	descending bool
	nullsFirst bool
}

// kqlExpr is an expression: a literal, a column, a call, or an operator with its operands.
type kqlExpr struct {
	op      string // "literal", "column", "call", or the operator itself
	literal any    // string, int64, float64, bool, time.Time, time.Duration, nil
	name    string // of a column or function
	args    []kqlExpr
	pos     int
}

// otherOperators are Kusto's; they are no syntax error, and the simulator does not evaluate them.
var otherOperators = map[string]bool{"summarize": true, "join": true, "union": true, "distinct": true, "parse": true, "mv-expand": true,
	"project-away": true, "project-keep": true, "project-rename": true, "project-reorder": true, "make-series": true, "render": true,
	"search": true, "sample": true, "serialize": true, "evaluate": true, "lookup": true, "invoke": true, "as": true, "find": true, "let": true}

func (q *kqlQuery) firstOperator() string {
	if len(q.steps) > 0 {
		return q.steps[0].operator
	}
	return "query"
}

// token kinds
const (
	tokEnd = iota
	tokName
	tokString
	tokNumber
	tokTimespan
	tokSymbol
)

type kqlToken struct {
	kind  int
	text  string // as written; of a string its value
	value any
	pos   int
}

type kqlParser struct {
	src    string
	tokens []kqlToken
	at     int
}

// syntaxError is Log Analytics' answer to a query that it cannot parse.
func (p *kqlParser) syntaxError(t kqlToken) error {
	line, col := 1, 1
	for _, c := range p.src[:min(t.pos, len(p.src))] {
		col++
		if c == '\n' {
			line, col = line+1, 1
		}
	}
	message := fmt.Sprintf("Query could not be parsed at '%s' on line [%d,%d]", t.text, line, col)
	return badQuery("The request had some invalid properties", map[string]any{"code": "SyntaxError", "message": "A recognition error occurred in the query.",
		"innererror": map[string]any{"code": "SYN0002", "message": message, "line": line, "pos": col, "token": t.text}})
}

// semantic is Log Analytics' answer to a query that names or combines what there is not.
func semantic(code, format string, args ...any) error {
	return badQuery("The request had some invalid properties", map[string]any{"code": "SemanticError", "message": "A semantic error occurred.",
		"innererror": map[string]any{"code": code, "message": fmt.Sprintf(format, args...)}})
}

func parseKQL(src string) (*kqlQuery, error) {
	p := &kqlParser{src: src}
	if err := p.scan(); err != nil {
		return nil, err
	}
	source := p.next()
	if source.kind != tokName {
		return nil, p.syntaxError(source)
	}
	if otherOperators[source.text] {
		return nil, p.unsupported(source)
	}
	q := &kqlQuery{table: source.text}
	for p.accept("|") {
		step, err := p.step()
		if err != nil {
			return nil, err
		}
		q.steps = append(q.steps, step)
	}
	p.accept(";")
	if t := p.peek(); t.kind != tokEnd {
		return nil, p.syntaxError(t)
	}
	return q, nil
}

func (p *kqlParser) unsupported(t kqlToken) error {
	return badQuery("azuresim does not evaluate the operator '"+t.text+"'", map[string]any{"code": "UnsupportedBySimulator", "message": "azuresim does not evaluate the operator '" + t.text + "'"})
}

func (p *kqlParser) peek() kqlToken { return p.tokens[p.at] }

func (p *kqlParser) next() kqlToken {
	t := p.tokens[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

// accept takes the next token if it is the symbol or word.
func (p *kqlParser) accept(text string) bool {
	if t := p.peek(); (t.kind == tokSymbol || t.kind == tokName) && t.text == text {
		p.at++
		return true
	}
	return false
}

func (p *kqlParser) expect(text string) error {
	if !p.accept(text) {
		return p.syntaxError(p.peek())
	}
	return nil
}

func (p *kqlParser) step() (kqlStep, error) {
	t := p.next()
	if t.kind != tokName {
		return kqlStep{}, p.syntaxError(t)
	}
	name := t.text
	for p.peek().text == "-" && p.peek().kind == tokSymbol && p.peek().pos == t.pos+len(name) { // mv-expand and the like
		p.next()
		name += "-" + p.next().text
	}
	switch name {
	case "where", "filter":
		e, err := p.expr()
		return kqlStep{operator: "where", exprs: []namedExpr{{expr: e}}}, err
	case "extend", "project":
		exprs, err := p.namedExprs()
		return kqlStep{operator: name, exprs: exprs}, err
	case "sort", "order":
		if err := p.expect("by"); err != nil {
			return kqlStep{}, err
		}
		keys, err := p.sortKeys()
		return kqlStep{operator: "sort", keys: keys}, err
	case "take", "limit":
		e, err := p.primary()
		return kqlStep{operator: "take", limit: e}, err
	case "top":
		limit, err := p.primary()
		if err == nil {
			err = p.expect("by")
		}
		if err != nil {
			return kqlStep{}, err
		}
		keys, err := p.sortKeys()
		return kqlStep{operator: "top", limit: limit, keys: keys}, err
	case "count":
		return kqlStep{operator: "count"}, nil
	}
	if otherOperators[name] {
		return kqlStep{}, p.unsupported(kqlToken{text: name})
	}
	return kqlStep{}, p.syntaxError(t)
}

func (p *kqlParser) namedExprs() ([]namedExpr, error) {
	var out []namedExpr
	for {
		var n namedExpr
		if t := p.peek(); t.kind == tokName && p.tokens[p.at+1].kind == tokSymbol && p.tokens[p.at+1].text == "=" {
			n.name = t.text
			p.at += 2
		}
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		n.expr = e
		out = append(out, n)
		if !p.accept(",") {
			return out, nil
		}
	}
}

func (p *kqlParser) sortKeys() ([]sortKey, error) {
	var out []sortKey
	for {
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		k := sortKey{expr: e, descending: true} // Kusto's default
		if p.accept("asc") {
			k.descending = false
		} else {
			p.accept("desc")
		}
		k.nullsFirst = !k.descending
		if p.accept("nulls") {
			switch {
			case p.accept("first"):
				k.nullsFirst = true
			case p.accept("last"):
				k.nullsFirst = false
			default:
				return nil, p.syntaxError(p.peek())
			}
		}
		out = append(out, k)
		if !p.accept(",") {
			return out, nil
		}
	}
}

// depthLimit bounds nested parentheses.
const depthLimit = 200

func (p *kqlParser) expr() (kqlExpr, error) { return p.or(0) }

func (p *kqlParser) or(depth int) (kqlExpr, error) {
	return p.chain([]string{"or"}, depth, p.and)
}

func (p *kqlParser) and(depth int) (kqlExpr, error) {
	return p.chain([]string{"and"}, depth, p.comparison)
}

// chain parses operands of next joined by left-associative operators.
func (p *kqlParser) chain(ops []string, depth int, next func(int) (kqlExpr, error)) (kqlExpr, error) {
	left, err := next(depth)
	for err == nil {
		t := p.peek()
		found := false
		for _, op := range ops {
			found = found || (t.kind == tokName || t.kind == tokSymbol) && t.text == op
		}
		if !found {
			return left, nil
		}
		p.next()
		var right kqlExpr
		if right, err = next(depth); err == nil {
			left = kqlExpr{op: t.text, args: []kqlExpr{left, right}, pos: t.pos}
		}
	}
	return kqlExpr{}, err
}

// comparisons are the binary operators between two sums.
var comparisons = map[string]bool{"==": true, "!=": true, "<": true, "<=": true, ">": true, ">=": true, "=~": true, "!~": true,
	"startswith": true, "!startswith": true, "startswith_cs": true, "!startswith_cs": true, "endswith": true, "!endswith": true,
	"contains": true, "!contains": true, "contains_cs": true, "!contains_cs": true, "has": true, "!has": true}

func (p *kqlParser) comparison(depth int) (kqlExpr, error) {
	left, err := p.sum(depth)
	if err != nil {
		return kqlExpr{}, err
	}
	t := p.peek()
	if t.kind != tokSymbol && t.kind != tokName {
		return left, nil
	}
	op := t.text
	switch {
	case comparisons[op]:
		p.next()
		right, err := p.sum(depth)
		return kqlExpr{op: op, args: []kqlExpr{left, right}, pos: t.pos}, err
	case op == "in" || op == "!in" || op == "in~" || op == "!in~":
		p.next()
		if err := p.expect("("); err != nil {
			return kqlExpr{}, err
		}
		args, err := p.args(depth)
		return kqlExpr{op: op, args: append([]kqlExpr{left}, args...), pos: t.pos}, err
	}
	return left, nil
}

func (p *kqlParser) sum(depth int) (kqlExpr, error) {
	return p.chain([]string{"+", "-"}, depth, func(d int) (kqlExpr, error) { return p.primaryAt(d) })
}

func (p *kqlParser) primary() (kqlExpr, error) { return p.primaryAt(0) }

func (p *kqlParser) primaryAt(depth int) (kqlExpr, error) {
	t := p.next()
	if depth > depthLimit {
		return kqlExpr{}, p.syntaxError(t)
	}
	switch t.kind {
	case tokString, tokNumber, tokTimespan:
		return kqlExpr{op: "literal", literal: t.value, pos: t.pos}, nil
	case tokSymbol:
		if t.text == "(" {
			e, err := p.or(depth + 1)
			if err == nil {
				err = p.expect(")")
			}
			return e, err
		}
		if t.text == "-" {
			e, err := p.primaryAt(depth + 1)
			return kqlExpr{op: "-", args: []kqlExpr{{op: "literal", literal: int64(0)}, e}, pos: t.pos}, err
		}
	case tokName:
		switch t.text {
		case "true", "false":
			return kqlExpr{op: "literal", literal: t.text == "true", pos: t.pos}, nil
		case "and", "or", "by", "in":
			return kqlExpr{}, p.syntaxError(t)
		case "datetime":
			return p.datetime(t)
		}
		if !p.accept("(") {
			return kqlExpr{op: "column", name: t.text, pos: t.pos}, nil
		}
		args, err := p.argsAt(depth + 1)
		return kqlExpr{op: "call", name: t.text, args: args, pos: t.pos}, err
	}
	return kqlExpr{}, p.syntaxError(t)
}

func (p *kqlParser) args(depth int) ([]kqlExpr, error) { return p.argsAt(depth + 1) }

// argsAt reads expressions up to the closing parenthesis.
func (p *kqlParser) argsAt(depth int) ([]kqlExpr, error) {
	var args []kqlExpr
	if p.accept(")") {
		return nil, nil
	}
	for {
		e, err := p.or(depth)
		if err != nil {
			return nil, err
		}
		args = append(args, e)
		if p.accept(")") {
			return args, nil
		}
		if err := p.expect(","); err != nil {
			return nil, err
		}
	}
}

// datetime reads the literal, whose content is no expression: datetime(2026-01-02T03:04:05Z).
func (p *kqlParser) datetime(t kqlToken) (kqlExpr, error) {
	open := p.next()
	if open.text != "(" {
		return kqlExpr{}, p.syntaxError(open)
	}
	end := strings.IndexByte(p.src[open.pos:], ')')
	if end < 0 {
		return kqlExpr{}, p.syntaxError(p.tokens[len(p.tokens)-1])
	}
	text := strings.Trim(strings.TrimSpace(p.src[open.pos+1:open.pos+end]), `"'`)
	e := kqlExpr{op: "literal", pos: t.pos}
	if text != "null" {
		at, ok := parseDatetime(text)
		if !ok {
			return kqlExpr{}, p.syntaxError(kqlToken{text: text, pos: open.pos + 1})
		}
		e.literal = at
	} else {
		e.literal = nullDatetime{}
	}
	for p.peek().kind != tokEnd && p.peek().pos <= open.pos+end {
		p.next()
	}
	return e, nil
}

type nullDatetime struct{}

var datetimeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999",
	"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"}

func parseDatetime(s string) (time.Time, bool) {
	for _, layout := range datetimeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return ticks(t), true
		}
	}
	return time.Time{}, false
}

// scan cuts the source into tokens, with one of kind tokEnd last (twice, so that one may look ahead).
func (p *kqlParser) scan() error {
	src := p.src
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case strings.HasPrefix(src[i:], "//"):
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case isNameStart(c):
			j := i
			for j < len(src) && (isNameStart(src[j]) || isDigit(src[j])) {
				j++
			}
			if src[i:j] == "in" && j < len(src) && src[j] == '~' {
				j++
			}
			p.tokens = append(p.tokens, kqlToken{kind: tokName, text: src[i:j], pos: i})
			i = j
		case isDigit(c):
			t, n := scanNumber(src[i:])
			if n == 0 {
				return p.syntaxError(kqlToken{text: src[i : i+1], pos: i})
			}
			t.pos = i
			p.tokens = append(p.tokens, t)
			i += n
		case c == '"' || c == '\'' || (c == '@' && i+1 < len(src) && (src[i+1] == '"' || src[i+1] == '\'')):
			value, n, ok := scanString(src[i:])
			if !ok {
				return p.syntaxError(kqlToken{text: src[i:min(len(src), i+20)], pos: i})
			}
			p.tokens = append(p.tokens, kqlToken{kind: tokString, text: value, value: value, pos: i})
			i += n
		default:
			text := ""
			for _, sym := range []string{"!startswith_cs", "!startswith", "!endswith", "!contains_cs", "!contains", "!has", "!in~", "!in",
				"==", "!=", "<=", ">=", "=~", "!~", "<", ">", "=", "(", ")", ",", "|", "+", "-", ";"} {
				if strings.HasPrefix(src[i:], sym) {
					text = sym
					break
				}
			}
			if text == "" {
				r, _ := utf8.DecodeRuneInString(src[i:])
				if r == ':' { // inside datetime(...), whose text is read by itself
					p.tokens = append(p.tokens, kqlToken{kind: tokSymbol, text: ":", pos: i})
					i++
					continue
				}
				return p.syntaxError(kqlToken{text: string(r), pos: i})
			}
			p.tokens = append(p.tokens, kqlToken{kind: tokSymbol, text: text, pos: i})
			i += len(text)
		}
	}
	end := kqlToken{kind: tokEnd, text: "<EOF>", pos: len(src)}
	p.tokens = append(p.tokens, end, end)
	return nil
}

func isNameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// scanNumber reads a number or a timespan such as 30s, and how long it is; 0 if it is neither.
func scanNumber(src string) (kqlToken, int) {
	j := 0
	for j < len(src) && (isDigit(src[j]) || src[j] == '.' && j+1 < len(src) && isDigit(src[j+1])) {
		j++
	}
	digits := src[:j]
	k := j
	for k < len(src) && isNameStart(src[k]) {
		k++
	}
	unit := src[j:k]
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return kqlToken{}, 0
	}
	units := map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second, "ms": time.Millisecond}
	if d, ok := units[unit]; ok {
		return kqlToken{kind: tokTimespan, text: src[:k], value: time.Duration(f * float64(d))}, k
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return kqlToken{kind: tokNumber, text: digits, value: n}, j // a unit that is none becomes the next token: 05T10 in a datetime
	}
	return kqlToken{kind: tokNumber, text: digits, value: f}, j
}

// scanString reads a quoted string with backslash escapes, or a verbatim one after @.
func scanString(src string) (value string, n int, ok bool) {
	verbatim := src[0] == '@'
	i := 0
	if verbatim {
		i = 1
	}
	quote := src[i]
	var b strings.Builder
	for i++; i < len(src); i++ {
		c := src[i]
		switch {
		case c == quote:
			if verbatim && i+1 < len(src) && src[i+1] == quote {
				b.WriteByte(quote)
				i++
				continue
			}
			return b.String(), i + 1, true
		case c == '\n':
			return "", 0, false
		case c == '\\' && !verbatim:
			i++
			if i >= len(src) {
				return "", 0, false
			}
			switch src[i] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case '\\', '"', '\'':
				b.WriteByte(src[i])
			default:
				return "", 0, false
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, false
}
