package azuresim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// batch makes an entity group transaction: one change set of at most 100 entities of one partition, all or nothing.
func (t *tableService) batch(w http.ResponseWriter, r *http.Request, body []byte, who *Principal) error {
	if len(body) > tableBatchBytes {
		return refuseTable(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit.")
	}
	parts, err := changeSet(r.Header.Get("Content-Type"), body)
	if err != nil {
		return errTableInput
	}
	if len(parts) > tableBatch {
		return errTableInput
	}
	var ops []*entityOperation
	seen := map[string]bool{}
	for i, p := range parts {
		op, err := t.batchOperation(p)
		if err == nil && i > 0 && (op.table != ops[0].table || op.pk != ops[0].pk) {
			err = refuseTable(http.StatusBadRequest, "CommandsInBatchActOnDifferentPartitions", "All commands in a batch must operate on same entity group.")
		}
		if err == nil && seen[op.rk] {
			err = refuseTable(http.StatusBadRequest, "InvalidDuplicateRow", "The batch request contains multiple changes with same row key. An entity can appear only once in a batch request.")
		}
		if err == nil {
			err = t.permit(who, op.table, op.actions()...)
		}
		if err != nil {
			writeBatch(w, [][]byte{refusedPart(i, err)})
			return nil
		}
		seen[op.rk] = true
		ops = append(ops, op)
	}
	rows, i, err := t.apply(ops)
	if err != nil {
		writeBatch(w, [][]byte{refusedPart(i, err)})
		return nil
	}
	var answers [][]byte
	for i, row := range rows {
		etag := ""
		if row != nil {
			etag = "ETag: " + row.etag() + "\r\n"
		}
		answers = append(answers, fmt.Appendf(nil, "HTTP/1.1 204 No Content\r\nContent-ID: %d\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\nDataServiceVersion: 1.0;\r\n%s\r\n", i+1, etag))
	}
	writeBatch(w, answers)
	return nil
}

// changeSet is the requests in the one change set of a batch.
func changeSet(contentType string, body []byte) ([][]byte, error) {
	outer, err := multipartOf(contentType, body)
	if err != nil {
		return nil, err
	}
	part, err := outer.NextPart()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(part)
	if err != nil {
		return nil, err
	}
	if _, err := outer.NextPart(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one change set")
	}
	inner, err := multipartOf(part.Header.Get("Content-Type"), content)
	if err != nil {
		return nil, err
	}
	var parts [][]byte
	for {
		p, err := inner.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if p.Header.Get("Content-Type") != "application/http" {
			return nil, errors.New("a part that is no request")
		}
		raw, err := io.ReadAll(p)
		if err != nil {
			return nil, err
		}
		parts = append(parts, raw)
	}
	if len(parts) == 0 {
		return nil, errors.New("an empty change set")
	}
	return parts, nil
}

func multipartOf(contentType string, body []byte) (*multipart.Reader, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	if kind != "multipart/mixed" || params["boundary"] == "" {
		return nil, errors.New("no multipart/mixed")
	}
	return multipart.NewReader(bytes.NewReader(body), params["boundary"]), nil
}

// batchOperation reads one request of a change set.
func (t *tableService) batchOperation(raw []byte) (*entityOperation, error) {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(raw)))
	line, err := r.ReadLine()
	if err != nil {
		return nil, errTableInput
	}
	method, rest, _ := strings.Cut(line, " ")
	target, _, _ := strings.Cut(rest, " HTTP/")
	u, err := url.Parse(target)
	if err != nil {
		return nil, errTableInput
	}
	h, err := r.ReadMIMEHeader()
	if err != nil {
		return nil, errTableInput
	}
	body, err := io.ReadAll(r.R)
	if err != nil {
		return nil, errTableInput
	}
	account := t.id[strings.LastIndexByte(t.id, '/')+1:]
	path, ok := strings.CutPrefix(u.Path, "/"+account+"/")
	if strings.EqualFold(u.Hostname(), account+".table."+storageSuffix) {
		path, ok = strings.CutPrefix(u.Path, "/")
	}
	if !ok {
		return nil, errTableInput
	}
	return t.operation(method, path, http.Header(h), body)
}

// refusedPart is the only answer of a transaction that was refused: for its first bad operation, whose number is told in
// the message alone.
func refusedPart(i int, err error) []byte {
	e := asTableError(err)
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-ID: %d\r\nX-Content-Type-Options: nosniff\r\nDataServiceVersion: 3.0;\r\nContent-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8\r\n\r\n%s\r\n",
		e.status, http.StatusText(e.status), i+1, jsonLine(e.body(fmt.Sprintf("%d:", i))))
}

func writeBatch(w http.ResponseWriter, parts [][]byte) {
	outer, inner := "batchresponse_"+newGUID(), "changesetresponse_"+newGUID()
	var b bytes.Buffer
	fmt.Fprintf(&b, "--%s\r\nContent-Type: multipart/mixed; boundary=%s\r\n\r\n", outer, inner)
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n%s\r\n", inner, p)
	}
	fmt.Fprintf(&b, "--%s--\r\n--%s--\r\n", inner, outer)
	w.Header().Set("Content-Type", "multipart/mixed; boundary="+outer)
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write(b.Bytes()) // a client that went away is its own business
}
