// Part of both libraries: the sources and the compiler they were built from, to be found without loading the file.
namespace {

__attribute__((used)) const char identity[] = "maam_ops build " BUILD_IDENTITY;

}  // namespace
