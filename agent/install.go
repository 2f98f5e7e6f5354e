package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ProgramName is what Install calls the program in its folder.
const ProgramName = "agent"

// fence keeps other users from replacing what is in a folder that the platform has opened to all, as Kubernetes does its
// empty directories. Where the folder is another user's, it stays as the platform has it.
func fence(dir string) error {
	st, err := os.Stat(dir)
	if err == nil && st.Mode().Perm()&0o022 != 0 {
		err = os.Chmod(dir, st.Mode().Perm()|st.Mode()&(os.ModeSetuid|os.ModeSetgid)|os.ModeSticky)
		if errors.Is(err, os.ErrPermission) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot protect the agent's folder: %w", err)
	}
	return nil
}

// Install copies this program into dir, where the container finds it, and makes the folder for spools beside it. A
// program that is there is replaced in one step, also while it runs.
func Install(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the agent's folder: %w", err)
	}
	if err := fence(dir); err != nil {
		return err
	}
	if err := MakeSpool(dir); err != nil {
		return err
	}
	src, err := os.Open(selfExe)
	if err != nil {
		return fmt.Errorf("cannot read the agent: %w", err)
	}
	defer src.Close()
	dst, err := os.CreateTemp(dir, "."+ProgramName+"-")
	if err != nil {
		return fmt.Errorf("cannot write the agent: %w", err)
	}
	_, err = io.Copy(dst, src)
	err = errors.Join(err, dst.Chmod(0o755), dst.Close())
	if err == nil {
		err = os.Rename(dst.Name(), filepath.Join(dir, ProgramName))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write the agent: %w", err), os.Remove(dst.Name()))
	}
	return nil
}
