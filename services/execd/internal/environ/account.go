package environ

import (
	"fmt"
	"os/user"
	"strconv"
)

// Account is a user of the image.
type Account struct {
	Home   string
	GID    int
	Groups []int
}

// AccountOf looks a numeric user up in the image's user database, with all its groups.
func AccountOf(uid int) (Account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return Account{}, fmt.Errorf("user %d: %w", uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return Account{}, fmt.Errorf("user %d: group %q: %w", uid, u.Gid, err)
	}
	a := Account{Home: u.HomeDir, GID: gid}
	ids, err := u.GroupIds()
	if err != nil {
		return Account{}, fmt.Errorf("groups of user %d: %w", uid, err)
	}
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err == nil {
			a.Groups = append(a.Groups, n)
		}
	}
	return a, nil
}
