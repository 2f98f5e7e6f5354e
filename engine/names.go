package engine

import (
	"math/rand/v2"
	"regexp"
	"strconv"

	"github.com/sockerless/sockerless"
)

// validName is what Docker takes as a container's name.
var validName = regexp.MustCompile(`^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// moods and people make the names of containers that were given none. People who made computing what it is.
var (
	moods = []string{
		"able", "bold", "brave", "bright", "calm", "clear", "clever", "cosy", "curious", "daring", "eager", "early",
		"fair", "fond", "frank", "free", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "humble",
		"jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "merry", "mild", "modest", "neat", "nimble",
		"patient", "plucky", "polite", "proud", "quick", "quiet", "rapid", "ready", "serene", "sharp", "silent",
		"sincere", "smart", "solid", "steady", "sunny", "swift", "tender", "tidy", "true", "vivid", "warm", "wise",
		"witty", "young", "zesty",
	}
	people = []string{
		"allen", "babbage", "backus", "baran", "bartik", "borg", "brooks", "cerf", "church", "clarke", "codd",
		"conway", "dahl", "diffie", "dijkstra", "easley", "engelbart", "estrin", "feinler", "floyd", "goldberg",
		"gray", "hamilton", "hamming", "hellman", "hoare", "holberton", "hopper", "huffman", "iverson", "jennings",
		"johnson", "kahn", "karp", "kay", "keller", "kernighan", "kleene", "knuth", "lamarr", "lamport", "liskov",
		"lovelace", "mccarthy", "meltzer", "naur", "neumann", "nygaard", "perlman", "pike", "rabin", "ritchie",
		"rivest", "shannon", "spence", "stallman", "tarjan", "thompson", "torvalds", "turing", "wilkes", "wing",
		"wirth", "zuse",
	}
)

// reserve gives a name to a container, or makes one up if name is empty.
func (e *Engine) reserve(name string, c *container) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if name == "" {
		name = e.freeName()
	} else {
		if !validName.MatchString(name) {
			return "", sockerless.Errorf(sockerless.EINVALID,
				"Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
		}
		name = trimSlash(name)
		if other := e.names[name]; other != nil {
			return "", sockerless.Errorf(sockerless.ECONFLICT, "Conflict. The container name %q is already in use by container %q. "+
				"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, other.id)
		}
	}
	e.names[name] = c
	return name, nil
}

// freeName: e.mu is held.
func (e *Engine) freeName() string {
	for i := 0; ; i++ {
		name := moods[rand.IntN(len(moods))] + "_" + people[rand.IntN(len(people))]
		if i > 5 {
			name += strconv.Itoa(rand.IntN(10 * i))
		}
		if e.names[name] == nil {
			return name
		}
	}
}

// release takes a name back. It leaves it if it is another container's by now.
func (e *Engine) release(name string, c *container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.names[name] == c {
		delete(e.names, name)
	}
}
