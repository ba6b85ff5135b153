package hooks

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule tells when a hook runs: five fields of cron, a word such as @hourly, or @every with whole seconds.
type Schedule struct {
	every                           time.Duration // Not 0 for @every; the sets mean nothing then.
	minutes, hours, days, months, w uint64        // Sets of numbers, one bit each; w is the day of the week, Sunday is 0.
	anyDay, anyWeekday              bool
}

// words are the named schedules of cron.
var words = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
	"@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}

var (
	monthNames = []string{"", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	dayNames   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// ParseSchedule reads a schedule. One that never comes, such as the 30th of February, is a mistake.
func ParseSchedule(text string) (Schedule, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	if rest, ok := strings.CutPrefix(text, "@every "); ok {
		d, err := time.ParseDuration(strings.TrimSpace(rest))
		if err != nil || d < time.Second || d%time.Second != 0 {
			return Schedule{}, errors.New("@every needs whole seconds, at least one, such as 90s or 1h30m")
		}
		return Schedule{every: d}, nil
	}
	if meaning, ok := words[text]; ok {
		text = meaning
	}
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return Schedule{}, errors.New("want minute, hour, day, month and weekday, a word such as @hourly, or @every and a duration")
	}
	var s Schedule
	for i, f := range []struct {
		to       *uint64
		name     string
		min, max int
		names    []string
	}{
		{&s.minutes, "minute", 0, 59, nil}, {&s.hours, "hour", 0, 23, nil}, {&s.days, "day", 1, 31, nil},
		{&s.months, "month", 1, 12, monthNames}, {&s.w, "weekday", 0, 7, dayNames},
	} {
		set, err := numbers(fields[i], f.min, f.max, f.names)
		if err != nil {
			return Schedule{}, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = set
	}
	s.w |= s.w >> 7 & 1 // 7 is Sunday too.
	s.anyDay, s.anyWeekday = strings.HasPrefix(fields[2], "*"), strings.HasPrefix(fields[4], "*")
	if s.Next(time.Unix(0, 0).UTC()).IsZero() {
		return Schedule{}, errors.New("this time never comes")
	}
	return s, nil
}

// numbers reads one field: *, numbers, ranges and steps, separated by commas.
func numbers(field string, low, high int, names []string) (uint64, error) {
	var set uint64
	for item := range strings.SplitSeq(field, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		step := 1
		if stepped {
			n, err := strconv.Atoi(stepText)
			if err != nil || n < 1 || n > high || stepText[0] == '+' {
				return 0, fmt.Errorf("%q is not a step", stepText)
			}
			step = n
		}
		from, to := low, high
		if span != "*" {
			first, last, ranged := strings.Cut(span, "-")
			var err error
			if from, err = number(first, low, high, names); err != nil {
				return 0, err
			}
			switch {
			case ranged:
				if to, err = number(last, low, high, names); err != nil {
					return 0, err
				}
			case !stepped: // 5/10 means from 5 to the end, in steps of 10.
				to = from
			}
		}
		if from > to {
			return 0, fmt.Errorf("%q ends before it begins", span)
		}
		for n := from; n <= to; n += step {
			set |= 1 << n
		}
	}
	return set, nil
}

func number(text string, low, high int, names []string) (int, error) {
	for i, name := range names {
		if name != "" && name == text {
			return i, nil
		}
	}
	if n, err := strconv.Atoi(text); err == nil && n >= low && n <= high && strings.Trim(text, "0123456789") == "" {
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a number from %d to %d", text, low, high)
}

// horizon is how far Next looks: eight years always hold a 29th of February.
const horizon = 9

// Next returns the first time of the schedule after now, in now's time zone; the zero time if there is none.
func (s Schedule) Next(now time.Time) time.Time {
	if s.every > 0 {
		return now.Add(s.every)
	}
	t := now.Truncate(time.Second).Add(time.Minute - time.Duration(now.Second())*time.Second)
	for limit := now.AddDate(horizon, 0, 0); t.Before(limit); {
		switch {
		case s.months>>t.Month()&1 == 0:
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, t.Location())
		case !s.day(t):
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
		case s.hours>>t.Hour()&1 == 0:
			// Added, not set: where the clock is put back, setting the hour would lead back to the same one.
			t = t.Add(time.Hour - time.Duration(t.Minute())*time.Minute)
		case s.minutes>>t.Minute()&1 == 0:
			t = t.Add(time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

// day follows cron: if both day and weekday are restricted, one of them is enough.
func (s Schedule) day(t time.Time) bool {
	day, weekday := s.days>>t.Day()&1 == 1, s.w>>t.Weekday()&1 == 1
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
