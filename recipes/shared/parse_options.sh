# shellcheck shell=bash disable=SC2154,SC2034  # these variables belong to run.sh and stages.sh
# Options as in Kaldi: every variable at the head of run.sh is one, and its comment is its documentation:
#
#   name_of_it=default  # DIR what it is for
#                       # and on
#
# "DIR" (or "FILE") first in the comment makes it a path, read from where the user stands, not from the recipe's
# folder. A default of true or false makes it a switch; a number accepts only numbers.
# The head ends at the first line that sources something. Sourced by stages.sh.

option_head() { sed '/^source /,$d' "$recipe/${0##*/}"; }  # $0 may be relative to where the user stood
option_names() { option_head | sed -n 's/^\([a-z][a-z0-9_]*\)=.*/\1/p'; }
option_comment() { option_head | sed -n "s/^$1=.*[[:space:]]# *//p"; }

# The option's name nearest to $1, or nothing.
nearest_option() {
  option_names | tr _ - | python3 -c 'import difflib, sys
for name in difflib.get_close_matches(sys.argv[1], sys.stdin.read().split(), 1, 0.5):
    print(f"; did you mean --{name}?")' "$1" 2> /dev/null || true
}

# What run.sh says of itself: the comment it begins with, its options, its stages.
print_help() {
  local line name number
  sed -n '2,/^$/s/^# \{0,1\}//p' "$recipe/${0##*/}"
  printf '\nOptions, with their defaults:\n'
  while IFS= read -r line; do
    if [[ $line =~ ^([a-z][a-z0-9_]*)= ]]; then
      name=${BASH_REMATCH[1]}
      printf '  --%-18s %s%s\n' "${name//_/-}" "$(option_comment "$name")" "${defaults[$name]:+ [${defaults[$name]}]}"
    elif [[ $line =~ ^[[:space:]]+\#\ *(.*) ]]; then
      printf '  %-20s %s\n' '' "${BASH_REMATCH[1]}"
    fi
  done < <(option_head)
  printf '\nStages:\n'
  for number in "${!does[@]}"; do
    printf '  %s  %s\n' "$number" "${does[number]}${leaves[number]:+ -> ${leaves[number]}}"
  done
}

# parse_options ARGUMENTS...: sets the variables, or dies; what they were before stays in defaults.
parse_options() {
  local name value
  declare -gA defaults=() given=()
  for name in $(option_names); do defaults[$name]=${!name}; done
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) print_help; exit 0 ;;
      --*=*) value=${1#*=}; name=${1%%=*}; shift; set -- "$name" "$value" "$@" ;;
      --*) ;;
      *) die "'$1' is no option; options are written --name value (see --help)" ;;
    esac
    name=${1#--}; name=${name//-/_}
    [[ $name =~ ^[a-z0-9_]+$ && -v defaults[$name] ]] \
      || die "there is no option $1$(nearest_option "${1#--}") (see --help)"
    if [[ ${defaults[$name]} =~ ^(true|false)$ && ( $# = 1 || $2 == --* ) ]]; then
      value=true
      shift
    else
      [[ $# -gt 1 && $2 != --* ]] || die "$1 needs a value (see --help)"
      value=$2
      shift 2
    fi
    check_value "--${name//_/-}" "${defaults[$name]}" "$value"
    if [[ $(option_comment "$name") =~ ^(DIR|FILE)( |$) && -n $value && $value != /* ]]; then
      value=$launched_from/$value
    fi
    printf -v "$name" %s "$value"
    given[$name]=true
  done
}

# check_value OPTION DEFAULT VALUE: a value of another kind than the default is a slip.
check_value() {
  if [[ $2 =~ ^(true|false)$ && ! $3 =~ ^(true|false)$ ]]; then die "$1 is true or false, not '$3'"; fi
  if [[ $2 =~ ^[0-9]+$ && ! $3 =~ ^[0-9]+$ ]]; then die "$1 is a whole number, not '$3'"; fi
}
