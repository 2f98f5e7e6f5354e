//go:build linux

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// row is what was measured. A nil figure was not.
type row struct {
	name, unit           string
	want                 want
	ours, apart, dockerd *float64
}

type table []row

func (t table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tunit\tours\tapart\tdockerd\tours:dockerd\tapart:dockerd\ttarget\t")
	for _, r := range t {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.name, r.unit, figure(r.ours), figure(r.apart), figure(r.dockerd),
			ratio(r.ours, r.dockerd), ratio(r.apart, r.dockerd), r.want.text, r.verdict())
	}
	tw.Flush()
}

func (r row) verdict() string {
	held, ours, apart := false, true, true
	hold := func(have *float64, limit float64, met *bool) {
		if have != nil {
			held, *met = true, *met && (r.want.more && *have >= limit || !r.want.more && *have <= limit)
		}
	}
	if r.want.fixed != 0 {
		hold(r.ours, r.want.fixed, &ours)
	}
	if r.want.fixed != 0 && r.want.apartFixed {
		hold(r.apart, r.want.fixed, &apart)
	}
	if r.dockerd != nil && r.want.ratio != 0 {
		hold(r.ours, *r.dockerd*r.want.ratio+r.want.plus, &ours)
	}
	if r.dockerd != nil && r.want.apart != 0 {
		hold(r.apart, *r.dockerd*r.want.apart, &apart)
	}
	switch {
	case !held:
		return ""
	case ours && apart:
		return "met"
	case ours:
		return "missed apart"
	}
	return "missed"
}

func figure(v *float64) string {
	if v == nil {
		return "-"
	}
	if *v < 1 {
		return fmt.Sprintf("%.2f", *v)
	}
	return fmt.Sprintf("%.1f", *v)
}

func ratio(v, to *float64) string {
	if v == nil || to == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v / *to)
}
