package azuresim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A table in the data folder is a file of lines: each is the rows that one write has changed, null for those that are
// gone. The first line has none. Reading a file writes it anew with one line.

func (t *tableService) file(name string) string {
	return filepath.Join(t.dir, strings.ToLower(name)+".jsonl")
}

// save adds a line; t.mu is held.
func (t *tableService) save(table *entityTable, rows map[string]*entityRow) error {
	if t.dir == "" {
		return nil
	}
	f, err := os.OpenFile(t.file(table.Name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot keep table %s: %w", table.Name, err)
	}
	_, err = f.Write(append(jsonLine(storedRows{table.Name, rows}), '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot keep table %s: %w", table.Name, err)
	}
	return nil
}

type storedRows struct {
	Table string                `json:"table"`
	Rows  map[string]*entityRow `json:"rows,omitempty"`
}

// load reads the tables of an earlier process.
func (t *tableService) load() error {
	if t.dir == "" {
		return nil
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the tables' folder: %w", err)
	}
	files, err := filepath.Glob(t.file("*"))
	if err != nil {
		return fmt.Errorf("cannot list the tables: %w", err)
	}
	for _, file := range files {
		table, err := readTable(file)
		if err != nil {
			return fmt.Errorf("cannot read table %s: %w", file, err)
		}
		t.tables[strings.ToLower(table.Name)] = table
		for _, row := range table.rows {
			if row.Timestamp.After(t.last) {
				t.last = row.Timestamp
			}
		}
		if err := writeFile(file, append(jsonLine(storedRows{table.Name, table.rows}), '\n')); err != nil {
			return fmt.Errorf("cannot keep table %s: %w", table.Name, err)
		}
	}
	return nil
}

func readTable(file string) (*entityTable, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	table := &entityTable{rows: map[string]*entityRow{}}
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return table, nil // what is behind the last newline was never answered for
		}
		if err != nil {
			return nil, err
		}
		var s storedRows
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, err
		}
		table.Name = s.Table
		table.change(s.Rows)
	}
}
